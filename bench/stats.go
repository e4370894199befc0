package main

import (
	"maps"
	"math"
	"slices"
	"time"
)

// key names one number that is measured once a round.
type key struct {
	scenario string
	target   string
	metric   string
}

// record holds what was measured. Rounds are kept apart, so that what was measured in the same one can be compared.
type record struct {
	values map[key]map[int]float64 // by round
}

func newRecord() *record { return &record{values: map[key]map[int]float64{}} }

// forRound returns where a scenario puts its numbers.
func (r *record) forRound(scenario string, round int) sheet {
	return sheet{record: r, scenario: scenario, round: round}
}

// sheet takes the numbers of one scenario in one round.
type sheet struct {
	record   *record
	scenario string
	round    int
}

func (s sheet) put(target, metric string, value float64) {
	k := key{s.scenario, target, metric}
	if s.record.values[k] == nil {
		s.record.values[k] = map[int]float64{}
	}
	s.record.values[k][s.round] = value
}

func (s sheet) get(target, metric string) (value float64, ok bool) {
	value, ok = s.record.values[key{s.scenario, target, metric}][s.round]
	return value, ok
}

// putAdded derives the latency that poolers add from what was measured directly in the same round.
func (s sheet) putAdded() {
	direct, ok := s.get(nameDirect, metricLatency)
	if !ok {
		return
	}
	for _, target := range []string{namePgBouncer, nameSluice} {
		if value, ok := s.get(target, metricLatency); ok {
			s.put(target, metricAdded, value-direct)
		}
	}
}

// rounds returns the values in the order of the rounds.
func (r *record) rounds(k key) []float64 {
	var out []float64
	for _, round := range slices.Sorted(maps.Keys(r.values[k])) {
		out = append(out, r.values[k][round])
	}
	return out
}

// median is that of all rounds; false: nothing was measured.
func (r *record) median(k key) (float64, bool) {
	values := r.rounds(k)
	return median(values), len(values) > 0
}

// ratio is the median of the ratios within each round, which a machine that slows down from round to round does not
// change. False: there is no round in which both are there and positive.
func (r *record) ratio(of, over key) (float64, bool) {
	var ratios []float64
	for round, value := range r.values[of] {
		if base, ok := r.values[over][round]; ok && base > 0 && value > 0 {
			ratios = append(ratios, value/base)
		}
	}
	return median(ratios), len(ratios) > 0
}

// median returns the middle one, or the mean of the two in the middle; NaN for none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medianMicros returns the median of some durations in microseconds.
func medianMicros(durations []time.Duration) float64 {
	values := make([]float64, len(durations))
	for i, d := range durations {
		values[i] = micros(d)
	}
	return median(values)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
