package proxy

import (
	"testing"
	"time"
)

// step is a second of a loop's life.
type step struct {
	worked, cpu time.Duration // of this loop, and of the whole process
	others      int64         // how busy the other loops are
}

func TestLoopIsHotOnlyWhenItUsesACore(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, tc := range map[string]struct {
		steps []step
		load  int64 // in the end
		hot   bool
	}{
		"idle":                     {[]step{{0, 0, 0}, {0, s / 100, 0}, {0, 0, 0}, {0, 0, 0}}, 0, false},
		"busy":                     {[]step{{s, s, 0}, {s, s, 0}, {s, s, 0}}, 1000, true},
		"busy for too short":       {[]step{{s, s, 0}, {s, s, 0}}, 1000, false},
		"busy with a pause":        {[]step{{s, s, 0}, {s, s, 0}, {s / 2, s / 2, 0}, {s, s, 0}, {s, s, 0}}, 1000, false},
		"starved of the processor": {[]step{{s, s / 2, 0}, {s, s / 2, 0}, {s, s / 2, 0}}, 500, false},
		"one of two that are busy": {[]step{{s, 2 * s, 1000}, {s, 2 * s, 1000}, {s, 2 * s, 1000}}, 1000, true},
		"two that share a core":    {[]step{{s, s, 1000}, {s, s, 1000}, {s, s, 1000}}, 500, false},
		"others' work":             {[]step{{s / 4, s, 750}, {s / 4, s, 750}, {s / 4, s, 750}}, 250, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h heat
			now := time.Unix(1, 0)
			var worked, cpu time.Duration
			h.measure(now, worked, cpu, func() int64 { return 0 })
			for _, step := range tc.steps {
				now, worked, cpu = now.Add(s), worked+step.worked, cpu+step.cpu
				h.measure(now, worked, cpu, func() int64 { return h.busy.Load() + step.others })
			}
			if got := h.load.Load(); got != tc.load {
				t.Errorf("load = %d, want %d", got, tc.load)
			}
			if got := h.tooHot(); got != tc.hot {
				t.Errorf("too hot = %v, want %v", got, tc.hot)
			}
			if h.tooHot() {
				t.Error("too hot twice")
			}
		})
	}
}
