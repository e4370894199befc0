package loop

import "time"

// Timer calls a function on a loop after a time. The zero value is ready to use; it must not be copied while it runs.
// Timers of the same duration stand in one list in the order of their start, so starting and stopping cost next to nothing.
type Timer struct {
	prev, next *Timer
	at         Instant
	f          func()
}

// timerList is the ring of timers of one duration; root.next is the first to fire.
type timerList struct {
	root Timer
	d    time.Duration
}

// Start has f called d after the beginning of the current turn, once. A timer that runs already is started anew. With d
// zero or less it does nothing but stop t. To be called on the loop.
func (l *Loop) Start(t *Timer, d time.Duration, f func()) {
	t.Stop()
	if d <= 0 {
		return
	}
	list := l.timers[d]
	if list == nil {
		list = &timerList{d: d}
		list.root.prev, list.root.next = &list.root, &list.root
		l.timers[d] = list
		l.lists = append(l.lists, list)
	}
	t.at, t.f = At(l.now.Add(d)), f
	last := list.root.prev
	t.prev, t.next = last, &list.root
	last.next, list.root.prev = t, t
}

// Stop stops t if it runs. To be called on its loop.
func (t *Timer) Stop() {
	if t.next == nil {
		return
	}
	t.prev.next, t.next.prev = t.next, t.prev
	t.prev, t.next, t.f = nil, nil, nil
}

// Left returns how much is left until t fires, 0 if it does not run. To be called on its loop.
func (t *Timer) Left(l *Loop) time.Duration {
	if !t.Running() {
		return 0
	}
	return max(-t.at.Until(l.now), 0)
}

// Running reports whether t has been started and has neither fired nor been stopped.
func (t *Timer) Running() bool { return t.next != nil }

// idleWait is how long a loop with no timer waits at most.
const idleWait = time.Hour

// untilNextTimeout returns how long the loop may wait, from the beginning of the turn that ends: a timer is late by what that
// took, for which the clock is not read a second time.
func (l *Loop) untilNextTimeout() time.Duration {
	if len(l.ready) > 0 {
		return 0
	}
	wait := idleWait
	for i := 0; i < len(l.lists); i++ {
		list := l.lists[i]
		first := list.root.next
		if first == &list.root { // a duration that may never come again
			delete(l.timers, list.d)
			l.lists = append(l.lists[:i], l.lists[i+1:]...)
			i--
			continue
		}
		wait = min(wait, -first.at.Until(l.now))
	}
	return max(wait, 0)
}

func (l *Loop) fireTimers() {
	for _, list := range l.lists {
		for t := list.root.next; t != &list.root && t.at.Until(l.now) >= 0; t = list.root.next {
			f := t.f
			t.Stop()
			l.guard(f)
		}
	}
}
