package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// catalog is a scripted Postgres: it answers after a while and counts.
type catalog struct {
	takes time.Duration

	mu      sync.Mutex // guards below
	secrets map[string]string
	err     error
	queries int
	now     int
	most    int
}

func (c *catalog) query(ctx context.Context, name string) (Entry, error) {
	c.mu.Lock()
	c.queries++
	c.now++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	select {
	case <-time.After(c.takes):
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
	if err := errors.Join(c.err, ctx.Err()); err != nil {
		return Entry{}, err
	}
	text, ok := c.secrets[name]
	if !ok {
		return Entry{}, fmt.Errorf("no row: %w", ErrUnknownRole)
	}
	s, err := ParseSecret(name, text)
	return Entry{Secret: s}, err
}

func (c *catalog) set(name, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets[name] = text
}

func (c *catalog) wantQueries(t *testing.T, want int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queries != want {
		t.Errorf("%d queries, want %d", c.queries, want)
	}
}

func wantText(t *testing.T, s Store, name, want string) Entry {
	t.Helper()
	e, err := s.Lookup(t.Context(), name)
	if err != nil || e.Secret.text() != want {
		t.Errorf("Lookup(%q): %v, right secret: %t", name, err, err == nil && e.Secret.text() == want)
	}
	return e
}

func wantUnknown(t *testing.T, s Store, name string) {
	t.Helper()
	_, err := s.Lookup(t.Context(), name)
	wantErr(t, err, ErrUnknownRole)
}

const ttl = 30 * time.Second

func TestCachedBelievesForTheCacheTimeAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{"alice": "old"}}
		c := NewCached(pg.query, ttl)
		first := wantText(t, c, "alice", "old")
		wantUnknown(t, c, "bob")
		pg.wantQueries(t, 2)
		pg.set("alice", "new")
		pg.set("bob", "born")
		time.Sleep(ttl - 1)
		wantText(t, c, "alice", "old")
		wantUnknown(t, c, "bob")
		pg.wantQueries(t, 2)
		time.Sleep(1)
		second := wantText(t, c, "alice", "new")
		wantText(t, c, "bob", "born")
		pg.wantQueries(t, 4)
		time.Sleep(ttl)
		third := wantText(t, c, "alice", "new")
		pg.wantQueries(t, 5)
		if second.Secret == first.Secret || third.Secret != second.Secret {
			t.Error("a secret that stays the same must keep what was computed from it, and only then")
		}
	})
}

func TestCachedForgetsADroppedRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{"alice": "old"}}
		c := NewCached(pg.query, ttl)
		wantText(t, c, "alice", "old")
		delete(pg.secrets, "alice")
		time.Sleep(ttl)
		wantUnknown(t, c, "alice")
		wantUnknown(t, c, "alice")
		pg.wantQueries(t, 2)
	})
}

func TestCachedInvalidatesOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{"alice": "old"}}
		c := NewCached(pg.query, ttl)
		c.Invalidate("alice") // nothing is known yet
		wantText(t, c, "alice", "old")
		pg.set("alice", "new")
		c.Invalidate("alice")
		wantText(t, c, "alice", "new")
		pg.wantQueries(t, 2)
		pg.set("alice", "newer")
		time.Sleep(time.Second - 1)
		for range 100 {
			c.Invalidate("alice")
			wantText(t, c, "alice", "new")
		}
		time.Sleep(1)
		c.Invalidate("alice")
		wantText(t, c, "alice", "newer")
		pg.wantQueries(t, 3)
		wantUnknown(t, c, "bob")
		pg.set("bob", "born")
		c.Invalidate("bob")
		wantText(t, c, "bob", "born")
	})
}

func TestCachedSharesOneQueryPerRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{"alice": "x"}, takes: time.Second}
		c := NewCached(pg.query, 0) // every answer is old at once
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { wantText(t, c, "alice", "x") })
			wg.Go(func() { wantUnknown(t, c, "bob") })
		}
		start := time.Now()
		wg.Wait()
		if got := time.Since(start); got != time.Second {
			t.Errorf("took %v, want 1s", got)
		}
		pg.wantQueries(t, 2)
		wantText(t, c, "alice", "x")
		pg.wantQueries(t, 3)
	})
}

func TestCachedRunsTwoQueriesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{takes: time.Second}
		c := NewCached(pg.query, ttl)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() { wantUnknown(t, c, fmt.Sprint("role", i)) })
		}
		start := time.Now()
		wg.Wait()
		if got := time.Since(start); got != 5*time.Second || pg.most != 2 {
			t.Errorf("took %v with %d at a time, want 5s with 2", got, pg.most)
		}
	})
}

func TestCachedGoesOnWhenTheAskingClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{"alice": "x"}, takes: 10 * time.Second}
		c := NewCached(pg.query, ttl)
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Lookup(ctx, "alice")
			if !errors.Is(err, gone) || errors.Is(err, ErrLookup) {
				t.Errorf("the one that leaves: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { wantText(t, c, "alice", "x") })
		wg.Go(func() {
			short, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			_, err := c.Lookup(short, "alice")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient one: %v", err)
			}
		})
		time.Sleep(2 * time.Second)
		cancel(gone)
		start := time.Now()
		wg.Wait()
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("the other one waited %v, want 10s", got)
		}
		pg.wantQueries(t, 2)
	})
}

func TestCachedWaitForASlotEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{takes: time.Minute}
		c := NewCached(pg.query, ttl)
		var wg sync.WaitGroup
		for i := range MaxQueries {
			wg.Go(func() { wantUnknown(t, c, fmt.Sprint("role", i)) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Lookup(ctx, "alice")
		wantErr(t, err, context.DeadlineExceeded)
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("after %v, want 5s", got)
		}
		wg.Wait()
		pg.wantQueries(t, MaxQueries)
	})
}

func TestCachedFailsClosedWhenPostgresIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{"alice": "x"}}
		c := NewCached(pg.query, ttl)
		wantText(t, c, "alice", "x")
		pg.err = errors.New("connection refused")
		wantText(t, c, "alice", "x")
		time.Sleep(ttl)
		_, err := c.Lookup(t.Context(), "alice")
		wantErr(t, err, ErrLookup)
		wantErr(t, err, pg.err)
		if errors.Is(err, ErrUnknownRole) {
			t.Error("a failure says that the role does not exist")
		}
		pg.err = nil
		wantText(t, c, "alice", "x")
		pg.wantQueries(t, 3)
	})
}

func TestCachedBoundsUnknownRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{"alice": "x"}}
		c := NewCached(pg.query, ttl)
		wantText(t, c, "alice", "x")
		for i := range maxUnknown + 100 {
			wantUnknown(t, c, fmt.Sprint("role", i))
			wantUnknown(t, c, "role0") // in use, so it stays
		}
		pg.wantQueries(t, 1+maxUnknown+100)
		if got := len(c.roles); got != maxUnknown+1 || c.unknown.Len() != maxUnknown {
			t.Errorf("%d roles are remembered, want %d", got, maxUnknown+1)
		}
		wantText(t, c, "alice", "x")
		wantUnknown(t, c, "role1") // forgotten long ago
		pg.wantQueries(t, 2+maxUnknown+100)
	})
}

func TestCachedSurvivesAPanickingQuery(t *testing.T) {
	t.Parallel()
	panics := true
	c := NewCached(func(context.Context, string) (Entry, error) {
		if panics {
			panics = false
			panic("bug: in the query")
		}
		return Entry{}, ErrUnknownRole
	}, ttl)
	func() {
		defer func() { _ = recover() }()
		_, _ = c.Lookup(t.Context(), role)
	}()
	wantUnknown(t, c, role)
}

func TestForgottenRolesAreAskedForAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{role: "old"}}
		store := Chain{NewCached(pg.query, ttl)}
		a := mustNew(t, MD5, store)
		for _, password := range []string{"old", "new", "newer"} {
			pg.set(role, password)
			store.Forget()
			if o, _ := login(t, a, role, password); o.err != nil {
				t.Errorf("%s: %v", password, o.err)
			}
		}
		pg.wantQueries(t, 3)
	})
}

func TestAnswerFromBeforeForgetIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{role: "old"}, takes: time.Second}
		c := NewCached(pg.query, ttl)
		done := make(chan error)
		go func() {
			_, err := c.Lookup(t.Context(), role)
			done <- err
		}()
		synctest.Wait()
		c.Forget()
		if _, err := c.Lookup(t.Context(), role); err != nil { // does not share that query
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		pg.wantQueries(t, 2)
		if _, err := c.Lookup(t.Context(), role); err != nil {
			t.Error(err)
		}
		pg.wantQueries(t, 2)
	})
}

func TestChangedPasswordWorksAtTheSecondAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pg := &catalog{secrets: map[string]string{role: "old"}}
		a := mustNew(t, MD5, NewCached(pg.query, ttl))
		if o, _ := login(t, a, role, "old"); o.err != nil {
			t.Fatal(o.err)
		}
		pg.set(role, "new")
		o, _ := login(t, a, role, "new")
		wantFailed(t, o, role, WhyWrongPassword)
		if o, _ = login(t, a, role, "new"); o.err != nil {
			t.Errorf("second attempt: %v", o.err)
		}
	})
}
