package main

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

// processCPU returns the user and system time that all threads of a process have used, those that have ended included.
// It is the sum of utime and stime in /proc/PID/stat, in nanoseconds instead of ticks of 10 ms: the process's CPU clock,
// as clock_getcpuclockid(3) names it.
func processCPU(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED
	var used syscall.Timespec
	clock := uintptr(int32(^pid)<<3 | scheduler)
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&used)), 0); errno != 0 {
		return 0, fmt.Errorf("read CPU clock of process %d: %w", pid, errno)
	}
	return time.Duration(used.Nano()), nil
}
