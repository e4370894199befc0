package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pool"
)

// kind is the type of a family.
type kind string

const (
	gauge     kind = "gauge"
	counter   kind = "counter"
	histogram kind = "histogram"
)

// family is a row of the catalogue.
type family struct {
	name   string
	kind   kind
	help   string
	labels []string
	read   func(*scrape, sink) // emits the family's samples
}

// sink takes the samples of one family.
type sink struct {
	desc   *prometheus.Desc
	kind   kind
	out    chan<- prometheus.Metric
	labels []string // the first values of each sample's labels
}

// number emits the value of a gauge or counter.
func (k sink) number(value float64, labels ...string) {
	valueType := prometheus.GaugeValue
	if k.kind == counter {
		valueType = prometheus.CounterValue
	}
	k.emit(prometheus.NewConstMetric(k.desc, valueType, value, slices.Concat(k.labels, labels)...))
}

// flag emits 1 or 0.
func (k sink) flag(is bool, labels ...string) {
	var value float64
	if is {
		value = 1
	}
	k.number(value, labels...)
}

// durations emits a histogram, whose buckets Prometheus wants cumulative.
func (k sink) durations(h *pool.Histogram) {
	buckets := make(map[float64]uint64, len(pool.Buckets))
	var n uint64
	for i, bound := range pool.Buckets {
		n += h.Counts[i]
		buckets[bound] = n
	}
	k.emit(prometheus.NewConstHistogram(k.desc, h.Count(), h.Sum.Seconds(), buckets, k.labels...))
}

// emit hands a sample to Prometheus, or reports that it is none.
func (k sink) emit(m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(k.desc, err)
	}
	k.out <- m
}

// process is a family that says something of the process; absent values are left out by read.
func process(name, help string, labels []string, read func(*Process, sink)) family {
	return family{"sluice_" + name, gauge, help, labels, func(s *scrape, k sink) { read(&s.process, k) }}
}

// perPool is a family with samples for each pool; label is empty, or tells several of one pool apart.
func perPool(name string, kind kind, label, help string, read func(*pool.Stats, sink)) family {
	labels := []string{"tenant", "database", "role", "mode"}
	if label != "" {
		labels = append(labels, label)
	}
	return family{"sluice_" + name, kind, help, labels, func(s *scrape, k sink) {
		for i := range s.pools {
			key := s.pools[i].Key
			k.labels = []string{key.Tenant, key.Database, key.Role, key.Mode}
			read(&s.pools[i], k)
		}
	}}
}

func poolGauge(name, help string, value func(*pool.Stats) int) family {
	return perPool(name, gauge, "", help, func(s *pool.Stats, k sink) { k.number(float64(value(s))) })
}

func poolCounter(name, help string, value func(*pool.Traffic) uint64) family {
	return perPool(name, counter, "", help, func(s *pool.Stats, k sink) { k.number(float64(value(&s.Traffic))) })
}

func poolCounts(name, label, help string, counts func(*pool.Traffic) map[string]uint64) family {
	return perPool(name, counter, label, help, func(s *pool.Stats, k sink) {
		for value, n := range counts(&s.Traffic) {
			k.number(float64(n), value)
		}
	})
}

func poolDurations(name, help string, durations func(*pool.Traffic) *pool.Histogram) family {
	return perPool(name, histogram, "", help, func(s *pool.Stats, k sink) { k.durations(durations(&s.Traffic)) })
}

// counted is a family of events.
func counted(name, help string, labels []string, of func(*events) *tally) family {
	return family{"sluice_" + name, counter, help, labels, func(s *scrape, k sink) {
		for set, n := range of(s.events).snapshot() {
			k.number(float64(n), set[:len(labels)]...)
		}
	}}
}
