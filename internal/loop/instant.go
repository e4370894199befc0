package loop

import "time"

// Instant is a moment in nanoseconds, of 8 bytes where a time.Time has 24: what each of many sessions remembers. It has a
// meaning only beside others of the same process. The zero value is none.
type Instant int64

var beginning = time.Now()

// At returns t as an Instant.
func At(t time.Time) Instant { return Instant(t.Sub(beginning)) }

// IsZero reports whether i is none.
func (i Instant) IsZero() bool { return i == 0 }

// Until returns how long it is from i until t.
func (i Instant) Until(t time.Time) time.Duration { return t.Sub(beginning) - time.Duration(i) }
