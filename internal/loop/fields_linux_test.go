package loop

import "testing"

// loseFields makes the loop one that does not know crypto/tls's fields.
func loseFields(l *Loop) {
	if l.poller != nil {
		l.poller.tls.fields = nil
	}
}

func TestFieldsOfCryptoTLSAreWhereTheyWere(t *testing.T) {
	t.Parallel()
	if findTLSFields() == nil {
		t.Error("this toolchain's tls.Conn is another one: TLS is served with more memory and more calls")
	}
}

func TestManySmallRecordsLeaveInOneRead(t *testing.T) {
	t.Parallel()
	l, r := run(t, variant{}), newRecorder()
	var sizes []int
	r.on = func(r *recorder) {
		for {
			n, err := r.conn.Read(l.Buffer())
			if err != nil {
				return
			}
			sizes = append(sizes, n)
		}
	}
	_, f := forge(t, l, r, false)
	var records []byte
	for range 100 {
		records = f.out.seal(records, dataRecord, "ten bytes.")
	}
	l.Do(func() { f.send(t, records) }) // the loop cannot see a part of it
	r.until(t, l, "all", func() bool { return len(sizes) > 0 })
	l.Do(func() {
		if len(sizes) != 1 || sizes[0] != 1000 {
			t.Errorf("read in pieces of %v, want one of 1000", sizes)
		}
	})
}
