package proxy

import (
	"runtime/debug"
	"time"
)

const (
	// trimEvery is how often it is looked whether memory can be given back.
	trimEvery = 2 * time.Second
	// trimAfter is how many logins leave enough behind for that.
	trimAfter = 1000
)

// trim gives memory back to the system after a burst of logins: their goroutines' stacks, buffers and keys are several times
// what the sessions keep, and an idle process makes so little garbage that the collector would leave it all for minutes.
func (s *Server) trim() {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	var trimmed, before uint64 // logins begun until then
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		begun := s.nextID.Load()
		if begun == before && begun-trimmed >= trimAfter {
			trimmed = begun
			debug.FreeOSMemory()
		}
		before = begun
	}
}
