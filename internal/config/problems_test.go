package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bad is a file and everything that is wrong with it.
type bad struct {
	name, file, want string
}

func syntaxCases() []bad {
	return []bad{
		{"empty file", "", "sluice.yaml: holds no settings"},
		{"only a comment", "# nothing\n", "sluice.yaml: holds no settings"},
		{"null document", "---\n", "sluice.yaml: holds no settings"},
		{"a list", "- a\n", "sluice.yaml:1: must be a block of settings, got a list"},
		{"two documents", "log: {}\n---\nlog: {}\n", "sluice.yaml:2: holds a second YAML document"},
		{"not YAML", "log: {\n", "sluice.yaml:1: is not YAML: did not find expected node content"},
		{"a password taken for an alias", "admin:\n  token: *hunter2\n",
			"sluice.yaml: is not YAML: unknown anchor (a value that starts with * or & needs quotes)"},
		{"unknown keys", "bogus: 1\nlog: {Level: info, frmat: json}\ntenants:\n- pool_sizes: 1\n  service: {password:hunter2}\n  max_client: 1\n", `
sluice.yaml:1: bogus: unknown key
sluice.yaml:2: log.Level: unknown key; did you mean level?
sluice.yaml:2: log.frmat: unknown key; did you mean format?
sluice.yaml:4: tenants[0].pool_sizes: unknown key; did you mean pool_size?
sluice.yaml:5: tenants[0].service.password…: unknown key
sluice.yaml:6: tenants[0].max_client: unknown key; did you mean max_clients?`},
		{"duplicate keys", "log: {level: info, level: warn}\nadmin: {}\nadmin: {}\n", `
sluice.yaml:1: log.level: duplicate key, first in line 1
sluice.yaml:3: admin: duplicate key, first in line 2`},
		{"null keys", "log:\nadmin: {token: ~}\nnetwork: {allowed_cidrs: }\ntenants:\n- network:\n  roles: [{name: null}, ]\n", `
sluice.yaml:1: log: is null: give it a value or remove the key
sluice.yaml:2: admin.token: is null: give it a value or remove the key
sluice.yaml:3: network.allowed_cidrs: is null: give it a value or remove the key
sluice.yaml:5: tenants[0].network: is null: give it a value or remove the key
sluice.yaml:6: tenants[0].roles[0].name: is null: give it a value or remove the key`},
		{"wrong types", `
listeners: 5
log: text
limits: {max_clients: "5", login_timeout: 30}
tls: {certificates: {}}
admin: {address: [], token: true}
tenants:
  - require_tls: "yes"
    pool_size: 010
    session_pool_size: 1.5
    name: !x y
    databases: [app]
    max_backends: many
`, `
sluice.yaml:2: listeners: must be a list, got a single value
sluice.yaml:3: log: must be a block of settings, got a single value
sluice.yaml:4: limits.max_clients: must be a whole number, got "5"
sluice.yaml:4: limits.login_timeout: must be a duration such as 30s or 5m, got 30
sluice.yaml:5: tls.certificates: must be a list, got a block of settings
sluice.yaml:6: admin.address: must be a single value, got a list
sluice.yaml:6: admin.token: must be text: put it in quotes
sluice.yaml:8: tenants[0].require_tls: must be true or false, got "yes"
sluice.yaml:9: tenants[0].pool_size: must be a whole number, got 010
sluice.yaml:10: tenants[0].session_pool_size: must be a whole number, got 1.5
sluice.yaml:11: tenants[0].name: must be a single value, got a tag that is not known
sluice.yaml:12: tenants[0].databases[0]: must be a block of settings, got a single value
sluice.yaml:13: tenants[0].max_backends: must be auto or a whole number, got "many"`},
		{"references", `
admin: {token: env(SLUICE_TEST_UNSET), socket: file(empty.txt)}
log: {level: file(none.txt), format: file(secret.txt), sessions: file(/)}
tenants: [{pool_size: file(secret.txt), network: {allowed_cidrs: [file(secret.txt)]}}]
`, `
sluice.yaml:2: admin.token: env(SLUICE_TEST_UNSET): the environment variable is not set
sluice.yaml:2: admin.socket: file(empty.txt): the file is empty
sluice.yaml:3: log.level: file(none.txt): no such file or directory
sluice.yaml:3: log.sessions: file(/): is not a regular file
sluice.yaml:3: log.format: must be one of text, json, got the value of file(secret.txt)
sluice.yaml:4: tenants[0].network.allowed_cidrs[0]: must be an address or a network such as 10.0.0.0/8, got the value of file(secret.txt)
sluice.yaml:4: tenants[0].pool_size: must be a whole number, got the value of file(secret.txt)`},
		{"a merge of itself", "log: &a {<<: *a}\n", "sluice.yaml:1: log.<<: merges too much"},
		{"a zero byte", `admin: {token: "a\0b"}`, "sluice.yaml:1: admin.token: must not contain a zero byte"},
		{"networks", "network: {allowed_cidrs: [10.0.0.1/8, '::ffff:10.0.0.0/90', 'fe80::1%eth0', '', 10.0.0.0/33]}\n", `
sluice.yaml:1: network.allowed_cidrs[0]: has bits set after its prefix length: must be 10.0.0.0/8, got "10.0.0.1/8"
sluice.yaml:1: network.allowed_cidrs[1]: must be an address or a network such as 10.0.0.0/8, got "::ffff:10.0.0.0/90"
sluice.yaml:1: network.allowed_cidrs[2]: must be an address or a network such as 10.0.0.0/8, got "fe80::1%eth0"
sluice.yaml:1: network.allowed_cidrs[3]: must be an address or a network such as 10.0.0.0/8, got ""
sluice.yaml:1: network.allowed_cidrs[4]: must be an address or a network such as 10.0.0.0/8, got "10.0.0.0/33"`},
	}
}

func processCases() []bad {
	return []bad{
		{"entries of networks", `
network:
  allowed_cidrs: [set(none), "set(offices) until 2026-12-31T18:00:00Z", "10.0.0.0/8 until", "10.0.0.0/8 until 2026-12-31", 10.0.0.0/8 10.1.0.0/16]
  denied_cidrs: [set(), "10.0.0.0/8 # \x01\0"]
network_sets: [{name: "a b", file: users.txt}, {name: offices, file: users.txt}, {name: offices, file: users.txt}]
tenants: [{roles: [{name: r, network: {allowed_cidrs: [set(none)]}}], databases: [{name: d, network: {denied_cidrs: [set(none)]}}]}]
`, `
sluice.yaml:3: network.allowed_cidrs[1]: a set does not expire as a whole: its entries may, got "set(offices) until 2026-12-31T18:00:00Z"
sluice.yaml:3: network.allowed_cidrs[2]: must have a time with a zone after until, such as 2026-12-31T18:00:00Z, got "10.0.0.0/8 until"
sluice.yaml:3: network.allowed_cidrs[3]: must have a time with a zone after until, such as 2026-12-31T18:00:00Z, got "10.0.0.0/8 until 2026-12-31"
sluice.yaml:3: network.allowed_cidrs[4]: must be a network such as 10.0.0.0/8, which until TIME and # comment may follow, got "10.0.0.0/8 10.1.0.0/16"
sluice.yaml:3: network.allowed_cidrs[0]: must be a network, or set() with the name of one of network_sets, got "set(none)"
sluice.yaml:4: network.denied_cidrs[0]: the name of a set must have letters, digits, _, - and . only, got "set()"
sluice.yaml:4: network.denied_cidrs[1]: must not contain a zero byte, got "10.0.0.0/8 # \x01\x00"
sluice.yaml:5: network_sets[0].name: the name of a set must have letters, digits, _, - and . only, got "a b"
sluice.yaml:5: network_sets[2].name: must be unique, network_sets[1].name is the same
sluice.yaml:6: tenants[0].roles[0].network.allowed_cidrs[0]: must be a network, or set() with the name of one of network_sets, got "set(none)"
sluice.yaml:6: tenants[0].databases[0].network.denied_cidrs[0]: must be a network, or set() with the name of one of network_sets, got "set(none)"`},
		{"managed by the API without a place for it", "tenants: [{network: {managed_by: api}}]\n",
			"sluice.yaml:1: tenants[0].network.managed_by: api needs state_dir, where the API keeps what it changes"},
		{"no listeners, no tenants", "listeners: []\ntenants: []\n", `
sluice.yaml:1: listeners: must have at least one listener
sluice.yaml:2: tenants: must have at least one tenant`},
		{"listeners", `
listeners:
  - {name: a, address: "127.0.0.1:5432", mode: sesion}
  - {name: a, address: "[::ffff:127.0.0.1]:5432", mode: session}
  - {name: "", address: "*:5432", mode: session, tenants: [default, none]}
  - {address: /run/, mode: transaction, unix_mode: 0999}
  - {name: e, address: "[::]:7000", mode: session}
  - {name: f, address: ":7000", mode: session}
  - {name: g, address: "127.0.0.1:0", mode: session}
  - {name: h, address: "127.0.0.1:0", mode: session}
  - {name: i, address: /run/i, mode: session, proxy_protocol_from: [10.0.0.0/8]}
`, `
sluice.yaml:3: listeners[0].mode: must be one of session, transaction, got "sesion"; did you mean session?
sluice.yaml:4: listeners[1].name: must be unique, listeners[0].name is the same
sluice.yaml:4: listeners[1].address: must be unique, listeners[0].address is the same
sluice.yaml:5: listeners[2].name: must not be empty
sluice.yaml:5: listeners[2].address: must be "IP:port", ":port" or the path of a Unix socket, got "*:5432"
sluice.yaml:5: listeners[2].tenants[1]: must be the name of a tenant, got "none"
sluice.yaml:6: listeners[3].name: is required
sluice.yaml:6: listeners[3].unix_mode: must be octal permissions such as 0660, got 0999
sluice.yaml:6: listeners[3].address: must be "IP:port", ":port" or the path of a Unix socket, got "/run/"
sluice.yaml:8: listeners[5].address: must be unique, listeners[4].address is the same
sluice.yaml:11: listeners[8].proxy_protocol_from: has no meaning on a Unix socket, whose clients have no address`},
		{"admin for everyone", "admin: {address: ':9930'}\n",
			"sluice.yaml:1: admin.address: needs admin.token, admin.cert_file, admin.key_file, because it can be reached from other machines"},
		{"admin on a listener's socket", "listeners: [{name: a, address: /run/sluice/s, mode: session}]\nadmin: {socket: /run/sluice/s}\n",
			`sluice.yaml:2: admin.socket: must be unique, listeners[0].address is the same`},
		{"admin on a path that is too long", "admin: {address: '', socket: /run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}\n",
			`sluice.yaml:1: admin.socket: must be a path of at most 103 bytes, got "/run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"`},
		{"admin with half a certificate", "admin: {address: '10.0.0.1:9930', token: x, cert_file: c}\n", `
sluice.yaml:1: admin.cert_file: needs admin.key_file
sluice.yaml:1: admin.address: needs admin.key_file, because it can be reached from other machines`},
		{"admin on a listener", "admin: {address: '127.0.0.1:5432'}\n",
			"sluice.yaml:1: admin.address: must be unique, listeners[0].address is the same"},
		{"what follows from a broken token is not reported", "admin: {address: ':9930', token: env(SLUICE_TEST_UNSET), cert_file: c, key_file: k}\n",
			"sluice.yaml:1: admin.token: env(SLUICE_TEST_UNSET): the environment variable is not set"},
		{"TLS", "tls:\n  key_file: k\n  client_cert: required\n  min_version: '1.1'\n  certificates: [{cert_file: c}]\n", `
sluice.yaml:2: tls.key_file: needs tls.cert_file
sluice.yaml:3: tls.client_cert: needs tls.client_ca_file
sluice.yaml:3: tls.client_cert: needs tls.cert_file and tls.key_file
sluice.yaml:4: tls.min_version: must be one of 1.2, 1.3, got "1.1"
sluice.yaml:5: tls.certificates[0].key_file: is required
sluice.yaml:5: tls.certificates: needs tls.cert_file, for clients that name no server`},
		{"curves and authorities", "tls:\n  curves: [X25519MLKEM768, secp384r1]\n  ca_file: c\n",
			"sluice.yaml:2: tls.curves[1]: must be one of X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, X25519, P-256, P-384, P-521, got \"secp384r1\"\n" +
				"sluice.yaml:3: tls.ca_file: needs tls.cert_file and tls.key_file"},
		{"curves that no client with TLS 1.2 has", "tls: {cert_file: c, key_file: k, curves: [X25519MLKEM768]}\n",
			"sluice.yaml:1: tls.curves: has none that TLS 1.2 can use: set tls.min_version to 1.3, or add X25519 or P-256"},
		{"ranges", "limits: {max_clients: 0, max_clients_per_address: -1, login_timeout: 0s}\nbans: {window: -1s}\nshutdown_timeout: -1s\n", `
sluice.yaml:1: limits.max_clients: must be at least 1, got 0
sluice.yaml:1: limits.max_clients_per_address: must be at least 0, got -1
sluice.yaml:1: limits.login_timeout: must be at least 1ms, got 0s
sluice.yaml:2: bans.window: must be at least 1s, got -1s
sluice.yaml:3: shutdown_timeout: must be at least 0s, got -1s`},
		{"not yet supported", `
listeners: [{name: a, address: ":1", mode: session}]
admin: {socket: /run/sluice/admin}
console: {admin_roles: [root@default, nobody], stats_roles: [a@b@none]}
`, `
sluice.yaml:4: console.admin_roles: is not supported by this version: leave it empty
sluice.yaml:4: console.stats_roles: is not supported by this version: leave it empty
sluice.yaml:4: console.admin_roles[1]: must be role@tenant, got "nobody"
sluice.yaml:4: console.stats_roles[0]: must end with the name of a tenant, got "a@b@none"`},
	}
}

func tenantCases() []bad {
	return []bad{
		{"names", "tenants:\n- name: a.b\n- name: Acme\n- name: acme\n- roles: [{name: r}, {name: R}, {name: r}]\n  databases: [{name: d}, {name: d}]\n", `
sluice.yaml:2: tenants[0].name: must consist of letters, digits, _ and -, got "a.b"
sluice.yaml:4: tenants[2].name: must be unique, tenants[1].name is the same
sluice.yaml:5: tenants[3].roles[2].name: must be unique, tenants[3].roles[0].name is the same
sluice.yaml:6: tenants[3].databases[1].name: must be unique, tenants[3].databases[0].name is the same`},
		{"pools", `
tenants:
  - pool_size: 0
  - {name: b, pool_size: 5, max_pinned: 6, max_backends: 0, pool_wait_timeout: 0s}
  - {name: c, backend: {min_backends: 16}, timeouts: {query: -1s}, max_clients: -1}
  - {name: d, max_backends: 2, backend: {min_backends: 3}, max_pinned: 14}
`, `
sluice.yaml:3: tenants[0].pool_size: must be at least 1, got 0
sluice.yaml:4: tenants[1].max_backends: must be at least 1, got 0
sluice.yaml:4: tenants[1].pool_wait_timeout: must be at least 1ms, got 0s
sluice.yaml:4: tenants[1].max_pinned: must be at most pool_size 5, got 6
sluice.yaml:5: tenants[2].max_clients: must be at least 0, got -1
sluice.yaml:5: tenants[2].timeouts.query: must be at least 0s, got -1s
sluice.yaml:5: tenants[2].backend.min_backends: must be at most pool_size 15, got 16
sluice.yaml:6: tenants[3].backend.min_backends: must be at most max_backends 2, got 3`},
		{"backends", `
tenants:
  - backend: {host: []}
  - {name: b, backend: {host: "a,b", port: 70000, tls_mode: allow, key_file: k}}
  - {name: c, backend: {host: [/run/.s.PGSQL.5432, "h:0", "[::1", "h:x"], settings: [x, "work_mem=1", "WORK_MEM=2"]}}
  - {name: d, backend: {port: 6543}}
`, `
sluice.yaml:3: tenants[0].backend.host: must have at least one host
sluice.yaml:4: tenants[1].backend.host: must be host, host:port or the folder of a Unix socket; several hosts are a list, got "a,b"
sluice.yaml:4: tenants[1].backend.port: must be at most 65535, got 70000
sluice.yaml:4: tenants[1].backend.tls_mode: must be one of disable, prefer, require, verify-ca, verify-full, got "allow"
sluice.yaml:4: tenants[1].backend.key_file: needs tenants[1].backend.cert_file
sluice.yaml:5: tenants[2].backend.host[0]: must be the folder of the Unix socket, not the socket itself, got "/run/.s.PGSQL.5432"
sluice.yaml:5: tenants[2].backend.host[1]: must have a port from 1 to 65535, got "h:0"
sluice.yaml:5: tenants[2].backend.host[2]: must be host, host:port or the folder of a Unix socket; several hosts are a list, got "[::1"
sluice.yaml:5: tenants[2].backend.host[3]: must have a port from 1 to 65535, got "h:x"
sluice.yaml:5: tenants[2].backend.settings[0]: must be name=value, got "x"
sluice.yaml:5: tenants[2].backend.settings[2]: must be unique, tenants[2].backend.settings[1] is the same
sluice.yaml:6: tenants[3].backend.host: is the address of listeners[1]: Sluice would connect to itself`},
		{"auth", `
tenants:
  - auth: {method: scram, query: "SELECT $10"}
  - {name: b, service: {password: hunter2}, roles: [{name: r, modes: [session, both]}]}
  - {name: c, service: {role: s, database: ""}, other_roles: maybe, plan_unnamed: on}
`, `
sluice.yaml:3: tenants[0].auth.method: must be one of auto, trust, password, md5, scram-sha-256, cert, jwt, peer, got "scram"
sluice.yaml:3: tenants[0].auth.query: must contain $1, the role that logs in
sluice.yaml:3: tenants[0].auth.query: needs tenants[0].service.role
sluice.yaml:4: tenants[1].roles[0].modes[1]: must be one of session, transaction, got "both"
sluice.yaml:4: tenants[1].service.password: needs tenants[1].service.role
sluice.yaml:5: tenants[2].plan_unnamed: must be one of auto, off, got "on"
sluice.yaml:5: tenants[2].other_roles: must be one of allow, deny, got "maybe"
sluice.yaml:5: tenants[2].service.database: must not be empty`},
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range append(append(syntaxCases(), processCases()...), tenantCases()...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tt.file)
			if err == nil {
				t.Fatalf("Load succeeded, want an error:\n%s", tt.file)
			}
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(fmt.Sprint(err), "hunter2") {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	}
}

func TestAliasesAndMergeKeysWork(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `
tenants:
  - &base
    name: a
    pool_size: 3
    max_clients: 9
    timeouts: &t {query: 5s}
  - <<: *base
    name: b
    pool_size: 4
  - {<<: [{name: c}, *base], timeouts: {<<: *t, client_idle: 1m}}
`)
	var got []string
	for _, tn := range c.Tenants {
		got = append(got, fmt.Sprint(tn.Name, tn.PoolSize, tn.MaxClients, tn.Timeouts.Query, tn.Timeouts.ClientIdle))
	}
	want := []string{"a3 9 5s 0s", "b4 9 5s 0s", "c3 9 5s 1m0s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
}

func TestAliasesOfAliasesAreBounded(t *testing.T) {
	t.Parallel()
	many := func(alias string) string { return "[" + strings.TrimSuffix(strings.Repeat(alias+",", 200), ",") + "]" }
	file := "tenants:\n- &t\n  roles:\n  - &r\n    name: r\n    modes: &m " + many("session") + "\n" +
		strings.Repeat("  - *r\n", 200) + strings.Repeat("- *t\n", 200)
	_, err := load(t, file)
	if err == nil || !strings.Contains(err.Error(), "has more than 200000 values") {
		t.Errorf("error does not say that there are too many values")
	}
}

func TestValidateIsPartOfLoad(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Tenants[0].PoolSize = 0
	got := c.Validate()
	want := []Problem{{Path: "tenants[0].pool_size", Message: "must be at least 1, got 0"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Validate (-want +got):\n%s", diff)
	}
}
