package proxy_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/pgscript"
	"sluice/proxy"
)

func TestDrainEndsIdleSessionsAtOnceAndOthersAfterTheirTransaction(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		idle, busy := h.login(port, "alice"), h.login(port, "alice")
		query(t, busy, "BEGIN")
		start := time.Now()
		drained := h.shutdown(time.Hour)
		idle.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		wantElapsed(t, start, 0)
		time.Sleep(30 * time.Second)
		query(t, busy, "INSERT INTO x VALUES (1)")
		busy.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", "B: ReadyForQuery I", "B: ErrorResponse FATAL 57P01", "B: EOF")
		wantElapsed(t, start, 30*time.Second)
		if err := <-drained; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if d := time.Since(start); d > 31*time.Second {
			t.Errorf("the drain took %s", d)
		}
		for _, c := range h.postgres.Conns() {
			if log := c.Log(); log[len(log)-1] != "Terminate" {
				t.Errorf("backend %d ended without Terminate: %q", c.PID, log)
			}
		}
	})
}

func TestDrainEndsWhatIsLeftAtItsDeadline(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		inBlock, running := h.login(port, "alice"), h.login(port, "alice")
		query(t, inBlock, "BEGIN")
		if err := running.Script("C: Query SELECT pg_sleep(600)"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		drained := h.shutdown(10 * time.Second)
		inBlock.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		wantElapsed(t, start, 10*time.Second)
		running.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		if err := <-drained; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v, want the deadline", err)
		}
		if n := h.postgres.Cancels(); n == 0 {
			t.Error("the statement that ran was not cancelled")
		}
		synctest.Wait()
		if n := h.postgres.Open(); n != 0 {
			t.Errorf("%d backends are still open", n)
		}
	})
}

func TestDrainRefusesNewConnectionsAndASecondShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		busy := h.login(transactionPort, "alice")
		query(t, busy, "BEGIN")
		half := h.connect(transactionPort)
		synctest.Wait()
		drained := h.shutdown(time.Minute)
		synctest.Wait()
		if !h.srv.Draining() {
			t.Error("Draining() = false")
		}
		if got := refusal(t, h.connect(transactionPort), "alice", "app", "secret"); !matches(t, "ErrorResponse FATAL 57P03", got[3:]) {
			t.Errorf("a client that comes during a drain is refused with %s", got)
		}
		if err := half.Startup("user", "alice", "database", "app"); err != nil {
			t.Fatal(err)
		}
		half.Run(t, "B: ErrorResponse FATAL 57P03", "B: EOF")
		if err := h.srv.Shutdown(t.Context()); !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("second Shutdown = %v", err)
		}
		if err := h.srv.Reload(settings(nil)); !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Reload while draining = %v", err)
		}
		query(t, busy, "COMMIT")
		if err := <-drained; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

func TestDrainServesWhoWaitsForABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		busy, waiting := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, busy, "BEGIN")
		ran := script(t, waiting, "C: Query SELECT 'x'", "B: ErrorResponse FATAL 57P01", "B: EOF")
		synctest.Wait()
		drained := h.shutdown(time.Minute)
		<-ran
		query(t, busy, "COMMIT")
		if err := <-drained; err != nil {
			t.Logf("drain: %v", err)
		}
	})
}

func TestLoginThatWaitsForABackendIsToldOfTheShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		query(t, h.login(sessionPort, "alice"), "BEGIN")
		c := h.connect(sessionPort)
		if err := c.Startup("user", "alice", "database", "app"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		drained := h.shutdown(time.Second)
		lines, err := c.Collect()
		if err == nil || len(lines) == 0 || !matches(t, "ErrorResponse FATAL 57P03", lines[len(lines)-1]) {
			t.Errorf("got %q, want FATAL 57P03", lines)
		}
		if err := <-drained; err != nil {
			t.Logf("drain: %v", err)
		}
	})
}

func TestCloseEndsEverythingAtOnce(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		if err := c.Script("C: Query SELECT pg_sleep(600)"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		closed := background(t, func() { _ = h.srv.Close() })
		c.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		<-closed
		if d := time.Since(start); d > time.Second {
			t.Errorf("Close took %s", d)
		}
	})
}

func TestCancelWorksThroughoutADrain(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		done := background(t, func() { c.Run(t, "C: Query SELECT pg_sleep(600)", "B: ErrorResponse ERROR 57014") })
		synctest.Wait()
		drained := h.shutdown(time.Hour)
		time.Sleep(time.Minute)
		h.cancel(port, c)
		<-done
		if err := <-drained; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if _, err := h.network.Dial(t.Context(), "tcp", port); err == nil {
			t.Error("the port is open after the drain")
		}
	})
}
