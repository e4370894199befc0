// Package memnet is a network in memory for tests.
//
// Its connections have the semantics of net.Conn, and whoever waits on them waits on a channel: in a synctest bubble
// a blocked reader, writer, Accept or Dial is durably blocked. A Network must be made in the bubble that uses it.
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// BufferBytes is how much a connection holds per direction before a Write blocks.
const BufferBytes = 64 << 10 // 64 KiB

const (
	backlog       = 128   // connections that nobody has accepted yet
	firstPort     = 40000 // of those that the network chooses
	clientAddress = "127.0.0.1"
)

// Network is a set of listeners that can be dialled. Addresses are "host:port" or the path of a Unix socket; a host
// name resolves to an address of its own.
type Network struct {
	mu        sync.Mutex // guards below
	listeners map[string]*Listener
	names     map[string]netip.Addr
	silent    map[string]bool
	nextPort  uint16
}

// New returns an empty network.
func New() *Network {
	return &Network{
		listeners: map[string]*Listener{},
		names:     map[string]netip.Addr{},
		silent:    map[string]bool{},
		nextPort:  firstPort,
	}
}

// Listen opens a listener. Port 0 is the next free one; "0.0.0.0", "[::]" and no host take connections to every
// address. It panics when the address is taken or cannot be understood.
func (n *Network) Listen(addr string) *Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, err := n.resolve(addr)
	if err != nil {
		panic("bug: memnet: " + err.Error())
	}
	if n.listeners[key(at)] != nil {
		panic(fmt.Sprintf("bug: memnet: listen %s: address already in use", addr))
	}
	l := &Listener{network: n, addr: at, conns: make(chan *Conn, backlog), closed: make(chan struct{})}
	n.listeners[key(at)] = l
	return l
}

// Dial connects to addr from 127.0.0.1. It has the signature of net.Dialer.DialContext.
//
// Errors: *net.OpError around ECONNREFUSED (ENOENT for a Unix socket) when nobody listens, or around ctx's error.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.DialFrom(ctx, clientAddress, addr)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// DialFrom connects to addr from an IP address, or an "IP:port", of the caller's choice. Errors: as Dial.
func (n *Network) DialFrom(ctx context.Context, from, addr string) (*Conn, error) {
	near, far, l, err := n.route(from, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	fail := func(err error) (*Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: far.Network(), Addr: far, Err: err}
	}
	if n.Silent(addr) {
		<-ctx.Done()
		return fail(ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if l == nil {
		return fail(refusal(far))
	}
	dialled, accepted := pair(near, far, BufferBytes)
	select {
	case l.conns <- accepted:
		select {
		case <-l.closed:
			accepted.Reset() // nobody else will: Close may have looked before
		default:
		}
		return dialled, nil
	case <-l.closed:
		return fail(refusal(far))
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

// SetSilent makes connections to addr neither succeed nor fail, as if packets were dropped, until it is unset.
func (n *Network) SetSilent(addr string, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent[addr] = silent
}

// Silent reports whether addr is silent.
func (n *Network) Silent(addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silent[addr]
}

// route finds both addresses of a connection and its listener, nil if there is none.
func (n *Network) route(from, addr string) (near, far net.Addr, l *Listener, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if far, err = n.resolve(addr); err != nil {
		return nil, nil, nil, err
	}
	if l = n.listeners[key(far)]; l == nil {
		if tcp, ok := far.(*net.TCPAddr); ok {
			l = n.listeners[wildcard(tcp.Port)]
		}
	}
	if far.Network() == "unix" {
		return &net.UnixAddr{Net: "unix"}, far, l, nil
	}
	if _, _, split := net.SplitHostPort(from); split != nil {
		from = net.JoinHostPort(from, "0")
	}
	near, err = n.resolve(from)
	return near, far, l, err
}

// resolve understands an address. n.mu is held.
func (n *Network) resolve(addr string) (net.Addr, error) {
	if strings.HasPrefix(addr, "/") {
		return &net.UnixAddr{Name: addr, Net: "unix"}, nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, &net.AddrError{Err: "invalid port", Addr: addr}
	}
	if port == 0 {
		port = uint64(n.nextPort)
		n.nextPort++
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.lookup(host), uint16(port))), nil
}

// lookup returns the address of a host. n.mu is held.
func (n *Network) lookup(host string) netip.Addr {
	if host == "" {
		return netip.IPv6Unspecified()
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip
	}
	if host == "localhost" {
		return netip.MustParseAddr(clientAddress)
	}
	if _, ok := n.names[host]; !ok {
		n.names[host] = netip.AddrFrom4([4]byte{192, 0, 2, byte(len(n.names) + 1)})
	}
	return n.names[host]
}

// key is how a listener is found: all wildcards of a port are the same.
func key(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return wildcard(tcp.Port)
	}
	return a.String()
}

func wildcard(port int) string { return ":" + strconv.Itoa(port) }

func refusal(far net.Addr) error {
	if far.Network() == "unix" {
		return os.NewSyscallError("connect", syscall.ENOENT)
	}
	return os.NewSyscallError("connect", syscall.ECONNREFUSED)
}

// Listener is a net.Listener of a Network.
type Listener struct {
	network *Network
	addr    net.Addr
	conns   chan *Conn
	closed  chan struct{}
}

// Accept returns the next connection, a *Conn; it blocks until there is one or the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, l.fail("accept")
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, l.fail("accept")
	}
}

// Close stops listening. Connections that nobody has accepted are reset.
func (l *Listener) Close() error {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	if l.network.listeners[key(l.addr)] != l {
		return l.fail("close")
	}
	delete(l.network.listeners, key(l.addr))
	close(l.closed)
	for {
		select {
		case c := <-l.conns:
			c.Reset()
		default:
			return nil
		}
	}
}

// Addr returns the address listened on.
func (l *Listener) Addr() net.Addr { return l.addr }

func (l *Listener) fail(op string) error {
	return &net.OpError{Op: op, Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
}
