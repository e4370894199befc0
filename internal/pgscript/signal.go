package pgscript

import (
	"strconv"
	"strings"
)

// signal ends another backend, or cancels what it does, by the pid that is the argument of the call.
func (c *ServerConn) signal(name, call string, args [][]byte) ([]byte, error) {
	inside := splitTop(between(call), ',')
	if len(inside) == 0 {
		return nil, sqlErrorf("42883", "function %s() does not exist", name)
	}
	argument, err := c.eval(inside[0], args)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.ParseUint(strings.TrimSpace(string(argument)), 10, 32)
	if err != nil {
		return nil, sqlErrorf("22P02", "invalid input syntax for type integer: %q", argument)
	}
	if name == "pg_cancel_backend" && c.server.cancelConn(uint32(pid)) || name == "pg_terminate_backend" && c.server.KillConn(uint32(pid), true) {
		return []byte("t"), nil
	}
	return []byte("f"), nil
}
