package main

import (
	"math"
	"testing"
	"time"
)

func TestMedianIsTheMiddle(t *testing.T) {
	t.Parallel()
	cases := []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	}
	for _, c := range cases {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v): got %v, want %v", c.values, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: got %v, want NaN", got)
	}
	if got := medianMicros([]time.Duration{time.Millisecond, 1500, 2500}); got != 2.5 {
		t.Errorf("medianMicros: got %v, want 2.5", got)
	}
}

func TestRatioComparesWithinRounds(t *testing.T) {
	t.Parallel()
	r := newRecord()
	// The machine gets slower from round to round; PgBouncer misses the last one.
	for round, value := range []float64{1, 10, 100, 1000} {
		s := r.forRound("load", round)
		s.put(nameSluice, metricCPU, value*float64(2+round))
		if round < 3 {
			s.put(namePgBouncer, metricCPU, value*4)
		}
	}
	of, over := key{"load", nameSluice, metricCPU}, key{"load", namePgBouncer, metricCPU}
	if got, ok := r.ratio(of, over); !ok || got != 0.75 {
		t.Errorf("ratio: got %v, %v, want 0.75", got, ok)
	}
	if got := r.rounds(of); len(got) != 4 || got[0] != 2 || got[3] != 5000 {
		t.Errorf("rounds: got %v, want four from 2 to 5000", got)
	}
	if _, ok := r.ratio(of, key{"load", nameDirect, metricCPU}); ok {
		t.Error("ratio to what was not measured: got one, want none")
	}
}

func TestAddedLatencyIsThatAboveTheDirectOne(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s := r.forRound("probe", 0)
	s.put(nameSluice, metricLatency, 30)
	s.putAdded()
	if _, ok := s.get(nameSluice, metricAdded); ok {
		t.Error("added latency without a direct one: got some, want none")
	}
	s.put(nameDirect, metricLatency, 20)
	s.putAdded()
	if got, _ := s.get(nameSluice, metricAdded); got != 10 {
		t.Errorf("added latency: got %v, want 10", got)
	}
	if _, ok := s.get(namePgBouncer, metricAdded); ok {
		t.Error("added latency of what was not measured: got some, want none")
	}
}
