package proxy_test

import (
	"testing"
	"testing/synctest"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

func onePooled(_ *config.Config, t *config.Tenant) { t.PoolSize = 1 }

func TestFlushLeavesTheBackendWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, t *config.Tenant) { t.PoolSize = 2 })
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		a.Run(t, `C: Parse "" "INSERT INTO x VALUES (1)"`, `C: Bind "" ""`, `C: Execute ""`, "C: Flush",
			"B: ParseComplete", "B: BindComplete", `B: CommandComplete "INSERT 0 1"`)
		synctest.Wait()
		query(t, b, "SELECT pg_backend_pid()", "1002")
		a.Run(t, "C: Sync", "B: ReadyForQuery I")
	})
}

func TestUnnamedStatementsOfTwoClientsDoNotMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		a.Run(t, `C: Parse "" "SELECT 'of a'"`, "C: Sync", "B: ParseComplete", "B: ReadyForQuery I")
		b.Run(t, `C: Parse "" "SELECT 'of b'"`, "C: Sync", "B: ParseComplete", "B: ReadyForQuery I")
		a.Run(t, `C: Bind "" ""`, `C: Execute ""`, "C: Sync",
			"B: BindComplete", `B: DataRow "of a"`, `B: CommandComplete "SELECT 1"`, "B: ReadyForQuery I")
		b.Run(t, `C: Bind "" ""`, `C: Execute ""`, "C: Sync",
			"B: BindComplete", `B: DataRow "of b"`, `B: CommandComplete "SELECT 1"`, "B: ReadyForQuery I")
		if n := len(h.postgres.Conns()); n != 1 {
			t.Errorf("%d backends, want 1", n)
		}
	})
}

func TestPinnedSessionsAreBoundedAndTheirBackendsNotReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, t *config.Tenant) { t.PoolSize, t.MaxPinned = 3, 1 })
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "CREATE TEMP TABLE mine(v text)")
		synctest.Wait() // until it is known that there is something to be pinned for
		query(t, a, "SELECT pg_backend_pid()", "1001")
		synctest.Wait()
		b.Run(t, "C: Query CREATE TEMP TABLE mine(v text)", "B: CommandComplete", "B: ReadyForQuery I", "B: ErrorResponse FATAL 53300", "B: EOF")
		a.Run(t, "C: Terminate", "B: EOF")
		synctest.Wait()
		if n := h.postgres.Open(); n != 0 {
			t.Errorf("%d backends are open, those of pinned sessions must be closed", n)
		}
		query(t, h.login(transactionPort, "alice"), "CREATE TEMP TABLE mine(v text)")
	})
}

func TestClientsOfOtherStartupParametersShareTheSlotsOfAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		utc, tokyo := h.login(transactionPort, "alice"), h.login(transactionPort, "alice", "TimeZone", "Asia/Tokyo")
		for range 2 {
			query(t, utc, "SHOW TimeZone", "UTC")
			query(t, tokyo, "SHOW TimeZone", "Asia/Tokyo")
		}
	})
}
