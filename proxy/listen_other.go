//go:build !linux

package proxy

import "net"

// listen is net.Listen.
func listen(network, address string) (net.Listener, error) { return net.Listen(network, address) }
