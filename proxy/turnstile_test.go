package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queue has a goroutine for each name wait at the turnstile, in this order, and returns the order in which they were let in.
// A name that begins with b has been in before.
func queue(t *testing.T, ts *turnstile, names ...string) func() []string {
	t.Helper()
	var mu sync.Mutex
	var order []string
	for _, name := range names {
		go func() {
			if err := ts.enter(t.Context(), name[0] == 'b'); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			ts.leave()
		}()
		synctest.Wait()
	}
	return func() []string {
		synctest.Wait()
		return order
	}
}

func TestTurnstileLetsInThoseWhoHaveBegunFirstThenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := &turnstile{free: 1}
		if err := ts.enter(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		order := queue(t, ts, "fresh 1", "begun 1", "fresh 2", "begun 2")
		if got := order(); len(got) != 0 {
			t.Fatalf("%q were let in with all places taken", got)
		}
		ts.leave()
		if got, want := order(), []string{"begun 1", "begun 2", "fresh 1", "fresh 2"}; !slices.Equal(got, want) {
			t.Errorf("let in %q, want %q", got, want)
		}
		if ts.free != 1 {
			t.Errorf("%d places are free, want 1", ts.free)
		}
	})
}

func TestTurnstileGivesUpWithTheContextAndKeepsItsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := &turnstile{free: 1}
		if err := ts.enter(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		start := time.Now()
		if err := ts.run(ctx, func() { t.Error("it ran") }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		if d := time.Since(start); d != 15*time.Second {
			t.Errorf("gave up after %s", d)
		}
		order := queue(t, ts, "next")
		ts.leave()
		if got := order(); len(got) != 1 || ts.free != 1 {
			t.Errorf("let in %q, %d places are free: who gave up took a place along", got, ts.free)
		}
		if err := ts.run(t.Context(), func() {}); err != nil || ts.free != 1 {
			t.Errorf("run: %v, %d places are free", err, ts.free)
		}
	})
}

func TestTurnstileHasAPlaceAtLeast(t *testing.T) {
	t.Parallel()
	if n := newTurnstile().free; n < 1 {
		t.Errorf("%d places", n)
	}
}
