package proxy

import (
	"sync/atomic"
	"time"
)

// What a loop's load, the part of a core that it takes, means for pools whose spread is auto.
const (
	hotLoad  = 850 // from here on a loop is too hot, in thousandths
	coolLoad = 500 // up to here a loop has time for a part of another's pool
	coldLoad = 400 // up to here the loops of a pool's parts together leave one idle enough for all

	hotFor  = 3  // sweeps after which a pool is split
	coldFor = 60 // sweeps after which its parts are joined
)

// heat is how busy a shard's loop is.
type heat struct {
	load atomic.Int64 // thousandths of a core
	busy atomic.Int64 // thousandths of the time; more than load where the machine is busy with other things

	at     time.Time
	worked time.Duration
	cpu    time.Duration
	hot    int // sweeps in a row
}

// measure finds out how busy the loop was since the last time. all is how busy all loops were; cpu is what the process has used
// of the processors since its beginning. A turn of a loop that does not get a core takes long, so the loop's part of the
// process's time bounds its load.
func (h *heat) measure(now time.Time, worked, cpu time.Duration, all func() int64) {
	elapsed := now.Sub(h.at)
	if h.at.IsZero() || elapsed <= 0 {
		h.at, h.worked, h.cpu = now, worked, cpu
		return
	}
	busy := thousandths(worked-h.worked, elapsed)
	used := thousandths(cpu-h.cpu, elapsed)
	h.at, h.worked, h.cpu = now, worked, cpu
	h.busy.Store(busy)
	load := min(busy, used)
	if sum := all(); sum > 0 {
		load = min(load, used*busy/sum)
	}
	h.load.Store(load)
	if load < hotLoad {
		h.hot = 0
		return
	}
	h.hot++
}

func thousandths(part, whole time.Duration) int64 { return int64(part) * 1000 / int64(whole) }

// tooHot reports, once, that the loop has been too hot for long enough.
func (h *heat) tooHot() bool {
	if h.hot < hotFor {
		return false
	}
	h.hot = 0
	return true
}

// feel measures the shard's heat, and has its hottest pool split if it is too hot.
func (sh *shard) feel() {
	sh.heat.measure(sh.loop.Now(), sh.loop.Worked(), processCPU(), func() (sum int64) {
		for _, other := range sh.srv.shards {
			sum += other.heat.busy.Load()
		}
		return sum
	})
	if sh.heat.tooHot() {
		sh.widen()
	}
}

// cool has the parts of the pool joined again, when they have been cold for long enough. The first part sees to that.
func (l *lane) cool() {
	load := l.heat.load.Load()
	for _, other := range l.others {
		load += other.heat.load.Load()
	}
	if !l.settings.spread.Auto || load > coldLoad {
		l.cold = 0
		return
	}
	if l.cold++; l.cold >= coldFor && l.tenant.first(l) {
		l.cold = 0
		l.narrow()
	}
}
