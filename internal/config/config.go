// Package config loads, checks and holds the configuration of Sluice as one immutable value.
//
// Load reads a file, FromURL a database URL, Default needs neither. What they return has been validated as a whole,
// with every problem reported at once, and must not be changed afterwards: it is shared by everyone who holds it.
//
// Each setting is one struct field. Its tags name the key and say what it means, its unit, its default, its range and
// whether a reload applies it to a running process; docs/config.md is generated from them.
package config

import (
	"io/fs"
	"net/netip"
	"time"
)

// Config is the whole configuration. The zero value admits nobody; start from Default, Load or FromURL.
type Config struct {
	Listeners       []Listener    `key:"listeners" doc:"the ports that clients connect to" default:"[{name: session, address: '127.0.0.1:5432', mode: session}, {name: transaction, address: '127.0.0.1:6543', mode: transaction}]" reload:"live"`
	Network         Network       `key:"network" doc:"who may connect to the process at all, checked before the first byte is read"`
	NetworkSets     []NetworkSet  `key:"network_sets" doc:"lists of networks in files of their own" reload:"live"`
	TLS             TLS           `key:"tls" doc:"TLS towards clients"`
	IdentMaps       []IdentLine   `key:"ident_maps" doc:"as which roles those may log in who show a certificate, or are a user of this machine; for tenants[].auth.map" reload:"live"`
	Admin           Admin         `key:"admin" doc:"the HTTP interface for operators: /metrics /healthz /readyz /status /api/v1 and the dashboard"`
	Console         Console       `key:"console" doc:"who may use the admin database"`
	Log             Log           `key:"log" doc:"what is written to stderr"`
	Limits          Limits        `key:"limits" doc:"limits of the whole process, over all listeners"`
	Bans            Bans          `key:"bans" doc:"what happens to an address after wrong passwords"`
	StateDir        string        `key:"state_dir" doc:"holds what the API changes, bans, and who was seen from where; made if it is not there; its own user's alone; empty: API changes are refused, and bans end with the process" unit:"folder" path:"yes" reload:"restart"`
	Watch           string        `key:"watch" doc:"what makes the process reload by itself when its files change; all: certificates, this file, those that it names and the API's state" default:"certs" oneof:"none certs all" reload:"live"`
	ShutdownTimeout time.Duration `key:"shutdown_timeout" doc:"how long a drain waits for transactions" unit:"duration" default:"60s" min:"0s" reload:"live"`
	Tenants         []Tenant      `key:"tenants" doc:"the Postgres clusters with their policies" default:"[{name: default}]" reload:"live"`

	// Files are those that Load has read: the configuration file itself and what it refers to.
	Files []string `key:"-"`
}

// Mode is how a listener lends backends to its clients.
type Mode string

// The modes.
const (
	ModeSession     Mode = "session"
	ModeTransaction Mode = "transaction"
)

// Listener is one address that clients connect to.
type Listener struct {
	Name              string         `key:"name" doc:"its name in logs and metrics" required:"yes" reload:"live"`
	Address           string         `key:"address" doc:"127.0.0.1:5432, [::]:6543 (IPv4 and IPv6), :5432 (the same) or the path of a Unix socket; port 0 takes any free one" required:"yes" reload:"live"`
	Mode              Mode           `key:"mode" doc:"session: a backend until the client leaves; transaction: a backend per transaction" required:"yes" oneof:"session transaction" reload:"live"`
	UnixMode          fs.FileMode    `key:"unix_mode" doc:"permissions of a Unix socket" unit:"octal" default:"'0660'" reload:"live"`
	ProxyProtocolFrom []netip.Prefix `key:"proxy_protocol_from" doc:"load balancers: from them the PROXY header is required, from others refused" unit:"CIDRs" reload:"live"`
	Tenants           []string       `key:"tenants" doc:"names of the tenants that can be reached here; empty: all" reload:"live"`
}

// Local reports whether only this machine can reach it: a Unix socket, or a loopback address.
func (l Listener) Local() bool {
	a, ok := parseListen(l.Address)
	return ok && (a.path != "" || a.loopback())
}

// Network says which addresses are admitted. An empty AllowedCIDRs admits nobody; a file that does not name the key
// gets the list that holds every address. A network block that the file does not have therefore narrows nothing.
type Network struct {
	AllowedCIDRs []Entry `key:"allowed_cidrs" doc:"addresses that may connect; [] admits nobody; an entry may be set(NAME), or end in until TIME and # comment" unit:"CIDRs" default:"['0.0.0.0/0', '::/0']" reload:"live"`
	DeniedCIDRs  []Entry `key:"denied_cidrs" doc:"addresses that may not, as in allowed_cidrs; a denial wins" unit:"CIDRs" reload:"live"`
}

// TenantNetwork is a Network that can be handed over to the API.
type TenantNetwork struct {
	Network   `key:",squash"`
	ManagedBy string `key:"managed_by" doc:"file, or api: then allowed_cidrs and the tenant's require_tls are what the API starts from" default:"file" oneof:"file api" reload:"live"`
}

// What TLS.ClientCert can be.
const (
	ClientCertNone     = "none"
	ClientCertOptional = "optional"
	ClientCertRequired = "required"
)

// TLS is how clients are offered TLS. Without a certificate an SSLRequest is answered with 'N'.
type TLS struct {
	CertFile     string        `key:"cert_file" doc:"certificate chain, PEM; cert_file and key_file both empty: no TLS" unit:"file" path:"yes" reload:"live"`
	KeyFile      string        `key:"key_file" doc:"its private key, PEM" unit:"file" path:"yes" reload:"live"`
	Certificates []Certificate `key:"certificates" doc:"further certificates, chosen by server name" reload:"live"`
	ClientCert   string        `key:"client_cert" doc:"whether clients show a certificate; optional: one that is shown must be valid" default:"none" oneof:"none optional required" reload:"live"`
	ClientCAFile string        `key:"client_ca_file" doc:"authorities that sign client certificates, PEM" unit:"file" path:"yes" reload:"live"`
	MinVersion   string        `key:"min_version" doc:"oldest TLS version that is accepted" default:"'1.2'" oneof:"1.2 1.3" reload:"live"`
	Curves       []string      `key:"curves" doc:"ways to exchange keys that are accepted; those with MLKEM are for TLS 1.3 and withstand quantum computers; [] is all, the best first" oneof:"X25519MLKEM768 SecP256r1MLKEM768 SecP384r1MLKEM1024 X25519 P-256 P-384 P-521" reload:"live"`
	CAFile       string        `key:"ca_file" doc:"the authorities that have signed these certificates, PEM: what the admin address gives clients at /ca.pem for their sslrootcert; empty: the root at the end of cert_file's chain, if it is there" unit:"file" path:"yes" reload:"live"`
}

// Enabled reports whether there is a certificate, and with it TLS.
func (t TLS) Enabled() bool { return t.CertFile != "" }

// Certificate is a certificate with its key.
type Certificate struct {
	CertFile string `key:"cert_file" doc:"certificate chain, PEM" unit:"file" required:"yes" path:"yes" reload:"live"`
	KeyFile  string `key:"key_file" doc:"its private key, PEM" unit:"file" required:"yes" path:"yes" reload:"live"`
}

// IdentLine is a line of an ident map, as in PostgreSQL's pg_ident.conf. Lines with the same Map belong together.
type IdentLine struct {
	Map      string `key:"map" doc:"name of the map; lines with the same one belong together" required:"yes" reload:"live"`
	Identity string `key:"identity" doc:"a name in the certificate, or the user; behind a / a regular expression (RE2) for all of it" required:"yes" reload:"live"`
	Role     string `key:"role" doc:"the role that it may log in as; \\1 in it is what the first group of the regular expression has matched" required:"yes" reload:"live"`
}

// Admin is the HTTP interface for operators.
type Admin struct {
	Address  string `key:"address" doc:"IP:port, empty: off; an address that is not loopback needs a token and TLS" default:"'127.0.0.1:9930'" reload:"restart"`
	Token    Secret `key:"token" doc:"needed for every change, and to read the policy through the API, but over socket; empty: changes only over socket" reload:"live"`
	Socket   string `key:"socket" doc:"Unix socket, for the user alone that Sluice runs as, who needs no token there; sluice … --admin unix:PATH" unit:"file" path:"yes" reload:"restart"`
	CertFile string `key:"cert_file" doc:"certificate chain, PEM; read again when it changes, as key_file" unit:"file" path:"yes" reload:"restart"`
	KeyFile  string `key:"key_file" doc:"its private key, PEM" unit:"file" path:"yes" reload:"restart"`
}

// Console says who may use the admin database, as "role@tenant".
type Console struct {
	AdminRoles []string `key:"admin_roles" doc:"who may see and change everything" unit:"role@tenant" reload:"live"`
	StatsRoles []string `key:"stats_roles" doc:"who may look" unit:"role@tenant" reload:"live"`
}

// Log is what is written to stderr.
type Log struct {
	Level    string `key:"level" doc:"least severe level that is written" default:"info" oneof:"debug info warn error" reload:"live"`
	Format   string `key:"format" doc:"how a line looks" default:"text" oneof:"text json" reload:"restart"`
	Sessions string `key:"sessions" doc:"which sessions leave a line when they end" default:"refused" oneof:"all refused none" reload:"live"`
	Audit    string `key:"audit" doc:"gets a line of JSON for each login, refusal, ban and change of the policy; opened anew by a reload; empty: none" unit:"file" path:"yes" reload:"live"`
}

// Limits are those of the whole process.
type Limits struct {
	MaxClients                  int           `key:"max_clients" doc:"client connections over all listeners; checked against the file-descriptor limit at start" unit:"connections" default:"10000" min:"1" max:"10000000" reload:"live"`
	MaxClientsPerAddress        int           `key:"max_clients_per_address" doc:"client connections from one address, an IPv6 one being its /64, and as many that log in; 0: no limit" unit:"connections" min:"0" max:"10000000" reload:"live"`
	MaxConnectionRatePerAddress int           `key:"max_connection_rate_per_address" doc:"new connections a second from one address, over ten seconds; 0: no limit" unit:"connections a second" min:"0" max:"1000000" reload:"live"`
	LoginTimeout                time.Duration `key:"login_timeout" doc:"from the connection to the end of its login" unit:"duration" default:"15s" min:"1ms" reload:"live"`
}

// Bans is what happens after wrong passwords.
type Bans struct {
	After  int            `key:"after" doc:"wrong passwords until an address is banned from a tenant, an IPv6 one with its /64; 0: delays only" min:"0" max:"1000000" reload:"live"`
	Window time.Duration  `key:"window" doc:"how long a wrong password is counted" unit:"duration" default:"5m" min:"1s" max:"24h" reload:"live"`
	For    time.Duration  `key:"for" doc:"how long a ban lasts" unit:"duration" default:"10m" min:"1s" max:"8760h" reload:"live"`
	Never  []netip.Prefix `key:"never" doc:"addresses that are never banned; those of this machine never are" unit:"CIDRs" reload:"live"`
}
