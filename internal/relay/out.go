package relay

// Out collects what is to be written to one side. As long as that is one run of the caller's own bytes, nothing is copied.
type Out struct {
	run []byte // aliases the caller's input; used while buf is empty
	buf []byte
}

// Bytes returns what has been collected. It aliases either the input of the call that collected it or o's buffer: it is
// to be written, or copied, before the input is overwritten and before Reset.
func (o *Out) Bytes() []byte {
	if len(o.buf) > 0 {
		return o.buf
	}
	return o.run
}

// Empty reports whether nothing has been collected.
func (o *Out) Empty() bool { return len(o.run) == 0 && len(o.buf) == 0 }

// Reset empties o and keeps its buffer.
func (o *Out) Reset() { o.run, o.buf = nil, o.buf[:0] }

// forward adds p, which is part of the caller's input.
func (o *Out) forward(p []byte) {
	switch {
	case len(p) == 0:
	case len(o.buf) > 0:
		o.buf = append(o.buf, p...)
	case len(o.run) == 0:
		o.run = p
	case len(o.run) < cap(o.run) && &o.run[:len(o.run)+1][len(o.run)] == &p[0]:
		o.run = o.run[:len(o.run)+len(p)]
	default:
		o.buf = append(append(o.buf, o.run...), p...)
		o.run = nil
	}
}

// own returns the buffer for appending bytes that are not in the input; the result goes back with set.
func (o *Out) own() []byte {
	if len(o.run) > 0 {
		o.buf = append(o.buf, o.run...)
		o.run = nil
	}
	return o.buf
}

func (o *Out) set(b []byte) { o.buf = b }
