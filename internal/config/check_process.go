package config

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxSocketPath is what the system's address of a Unix socket can hold: 104 bytes on macOS, 108 on Linux, one of them
// the zero at its end.
const maxSocketPath = 103

// listeners checks names, addresses and tenants of the listeners.
func (k *checker) listeners() {
	list := k.cfg.Listeners
	if len(list) == 0 {
		k.add("listeners", "must have at least one listener")
	}
	names, addresses := make([]string, len(list)), make([]string, len(list))
	for i, l := range list {
		at := item("listeners", i)
		names[i] = l.Name
		if l.Address != "" {
			a, ok := parseListen(l.Address)
			if !ok {
				k.add(at+".address", `must be "IP:port", ":port" or the path of a Unix socket, %s`, k.got(at+".address", l.Address))
			}
			addresses[i] = a.key()
		}
		if len(l.ProxyProtocolFrom) > 0 && strings.HasPrefix(l.Address, "/") {
			k.add(at+".proxy_protocol_from", "has no meaning on a Unix socket, whose clients have no address")
		}
		for j, name := range l.Tenants {
			if !k.hasTenant(name) {
				k.add(item(at+".tenants", j), "must be the name of a tenant, %s", k.got(item(at+".tenants", j), name))
			}
		}
	}
	k.unique(names, func(i int) string { return item("listeners", i) + ".name" })
	k.unique(addresses, func(i int) string { return item("listeners", i) + ".address" })
}

// hasTenant reports whether a tenant has that name, or may have it because names are broken.
func (k *checker) hasTenant(name string) bool {
	if !k.sound("tenants") {
		return true
	}
	for i, t := range k.cfg.Tenants {
		if t.Name == name || !k.sound(item("tenants", i)+".name") {
			return true
		}
	}
	return false
}

// process checks TLS towards clients and the roles of the console.
func (k *checker) process() {
	t := k.cfg.TLS
	k.together("tls", "cert_file", t.CertFile, "key_file", t.KeyFile)
	if len(t.Certificates) > 0 && !t.Enabled() && k.sound("tls.cert_file") {
		k.add("tls.certificates", "needs tls.cert_file, for clients that name no server")
	}
	if t.CAFile != "" && !t.Enabled() && k.sound("tls.cert_file") {
		k.add("tls.ca_file", "needs tls.cert_file and tls.key_file")
	}
	if only13(t.Curves) && t.MinVersion == "1.2" {
		k.add("tls.curves", "has none that TLS 1.2 can use: set tls.min_version to 1.3, or add X25519 or P-256")
	}
	if t.ClientCert == ClientCertOptional || t.ClientCert == ClientCertRequired {
		if t.ClientCAFile == "" && k.sound("tls.client_ca_file") {
			k.add("tls.client_cert", "needs tls.client_ca_file")
		}
		if !t.Enabled() && k.sound("tls.cert_file") {
			k.add("tls.client_cert", "needs tls.cert_file and tls.key_file")
		}
	}
	k.consoleRoles("console.admin_roles", k.cfg.Console.AdminRoles)
	k.consoleRoles("console.stats_roles", k.cfg.Console.StatsRoles)
}

// only13 reports whether there are curves, and all of them are for TLS 1.3.
func only13(curves []string) bool {
	return len(curves) > 0 && !slices.ContainsFunc(curves, func(c string) bool { return !strings.Contains(c, "MLKEM") })
}

func (k *checker) consoleRoles(path string, roles []string) {
	for i, r := range roles {
		at := item(path, i)
		role, tenant, _ := cutLast(r, "@")
		if role == "" || tenant == "" {
			k.add(at, "must be role@tenant, %s", k.got(at, r))
		} else if !k.hasTenant(tenant) {
			k.add(at, "must end with the name of a tenant, %s", k.got(at, r))
		}
	}
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// admin refuses an interface that others than this machine can reach without TLS and a token.
func (k *checker) admin() {
	a := k.cfg.Admin
	k.together("admin", "cert_file", a.CertFile, "key_file", a.KeyFile)
	k.adminSocket(a.Socket)
	if a.Address == "" {
		return
	}
	listen, ok := parseListen(a.Address)
	if !ok || listen.path != "" {
		k.add("admin.address", `must be "IP:port" or empty, %s`, k.got("admin.address", a.Address))
		return
	}
	for i, l := range k.cfg.Listeners {
		if other, ok := parseListen(l.Address); ok && other.key() != "" && other.key() == listen.key() {
			k.add("admin.address", "must be unique, %s.address is the same", item("listeners", i))
		}
	}
	var missing []string
	for _, s := range []struct{ path, value string }{
		{"admin.token", a.Token.Reveal()}, {"admin.cert_file", a.CertFile}, {"admin.key_file", a.KeyFile},
	} {
		if s.value == "" && k.sound(s.path) {
			missing = append(missing, s.path)
		}
	}
	if !listen.loopback() && len(missing) > 0 {
		k.add("admin.address", "needs %s, because it can be reached from other machines", strings.Join(missing, ", "))
	}
}

// adminSocket checks the path of the Unix socket for operators.
func (k *checker) adminSocket(path string) {
	if path == "" {
		return
	}
	listen, ok := parseListen(path)
	if !ok || listen.path == "" {
		k.add("admin.socket", "must be a path of at most %d bytes, %s", maxSocketPath, k.got("admin.socket", path))
	}
	for i, l := range k.cfg.Listeners {
		if l.Address == path {
			k.add("admin.socket", "must be unique, %s.address is the same", item("listeners", i))
		}
	}
}

// loops reports backends that are Sluice's own listeners.
func (k *checker) loops() {
	for i, t := range k.cfg.Tenants {
		for _, h := range t.Backend.Hosts {
			j := slices.IndexFunc(k.cfg.Listeners, func(l Listener) bool {
				a, ok := parseListen(l.Address)
				return ok && a.serves(h)
			})
			if j < 0 || !k.sound(item("listeners", j)+".address", item("tenants", i)+".backend.port") {
				continue
			}
			hint := ""
			if t.URLLogin {
				hint = "; " + sessionAddressEnv + " and " + transactionAddressEnv + " move the listeners"
			}
			k.add(item("tenants", i)+".backend.host", "is the address of %s: Sluice would connect to itself%s", item("listeners", j), hint)
		}
	}
}

// listenAddress is an address to listen on: a path, or a port with an IP address or "localhost". No host means every
// address.
type listenAddress struct {
	path string
	host string
	port int
}

func parseListen(text string) (listenAddress, bool) {
	if strings.HasPrefix(text, "/") {
		return listenAddress{path: text}, !strings.HasSuffix(text, "/") && len(text) <= maxSocketPath
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return listenAddress{}, false
	}
	n, err := parsePort(port)
	if err != nil {
		return listenAddress{}, false
	}
	if host == "" || strings.EqualFold(host, "localhost") {
		return listenAddress{host: strings.ToLower(host), port: n}, true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return listenAddress{}, false
	}
	if addr == netip.IPv6Unspecified() {
		return listenAddress{port: n}, true
	}
	return listenAddress{host: addr.Unmap().String(), port: n}, true
}

// key is the same for two addresses that cannot be listened on at once. It is empty for one that takes any free port.
func (a listenAddress) key() string {
	switch {
	case a.path != "":
		return a.path
	case a.port == 0:
		return ""
	default:
		return net.JoinHostPort(a.host, strconv.Itoa(a.port))
	}
}

func (a listenAddress) loopback() bool { return loopback(a.host) }

// serves reports whether a connection to h surely ends at a.
func (a listenAddress) serves(h HostPort) bool {
	if a.path != "" {
		return a.path == h.String()
	}
	if h.Unix() || a.port == 0 || a.port != h.Port {
		return false
	}
	if a.host == h.Host {
		return true
	}
	named := strings.EqualFold(h.Host, "localhost")
	switch a.host {
	case "", "0.0.0.0":
		return h.Local()
	case "127.0.0.1", "localhost":
		return named || h.Host == "127.0.0.1"
	default:
		return false
	}
}
