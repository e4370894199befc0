//go:build !linux

package throwawaypg

import "syscall"

// processAttributes gives a program a process group of its own.
func processAttributes(c *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: c}
}
