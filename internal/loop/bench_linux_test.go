package loop

import (
	"crypto/tls"
	"testing"

	"golang.org/x/sys/unix"
)

// cpu returns the processor time of the process in nanoseconds.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkEcho is one message there and back at a time; cpu-ns/op counts both ends.
func BenchmarkEcho(b *testing.B) {
	for _, test := range []struct {
		name string
		v    variant
		make func(testing.TB, *Loop) func()
	}{
		{"plain/loop", variant{}, plainEcho},
		{"plain/goroutine", variant{kind: Portable}, plainEcho},
		{"tls/loop", variant{}, tlsEcho},
		{"tls/loop, fields lost", variant{lost: true}, tlsEcho},
		{"tls/goroutine", variant{kind: Portable}, tlsEcho},
	} {
		b.Run(test.name, func(b *testing.B) {
			echo := test.make(b, run(b, test.v))
			b.ReportAllocs()
			began := cpu(b)
			for b.Loop() {
				echo()
			}
			b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkIdleTLSClient measures memory, not time.
func BenchmarkIdleTLSClient(b *testing.B) {
	for _, v := range []variant{{name: "loop"}, {name: "loop, fields lost", lost: true}, {name: "goroutine", kind: Portable}} {
		for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
			b.Run(v.name+"/"+tls.VersionName(version), func(b *testing.B) {
				var bytes int
				for b.Loop() {
					bytes = idle(b, v, version, 300)
				}
				b.ReportMetric(float64(bytes), "B/client")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
