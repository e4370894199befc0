//go:build unix

package proxy

import (
	"syscall"
	"time"
)

// processCPU returns how much of the processors the process has used since its beginning.
func processCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
