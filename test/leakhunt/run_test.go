package leakhunt

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var (
	seedFlag = flag.Uint64("leakhunt.seed", 0, "seed of the clients; 0: a new one")
	duration = flag.Duration("leakhunt.duration", time.Minute, "how long to hunt")
)

// TestNothingCrosses hunts for a minute; make leakhunt for ten.
func TestNothingCrosses(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()>>16 + 1
	}
	t.Logf("-leakhunt.seed=%d -leakhunt.duration=%s", seed, *duration)
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	w := newWorld(t, seed, stop)
	end := time.AfterFunc(*duration, func() { stop(nil) })
	defer end.Stop()
	began := time.Now()
	var clients sync.WaitGroup
	for _, tn := range tenants() {
		tokens := make(chan struct{}, pinnable-1)
		for i := range tn.clients {
			clients.Go(newClient(ctx, w, tn, i, tokens).hunt)
		}
	}
	clients.Wait()
	w.report(time.Since(began))
}
