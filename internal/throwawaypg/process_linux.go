package throwawaypg

import "syscall"

// processAttributes gives a program a process group of its own, and has Linux shut it down at once (Postgres's
// immediate shutdown) when the thread that started it ends.
func processAttributes(c *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: c, Pdeathsig: syscall.SIGQUIT}
}
