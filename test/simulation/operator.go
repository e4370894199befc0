package simulation

import (
	"context"
	"math/rand/v2"
	"time"

	"sluice/internal/wire"
)

// request makes up a cancel request, to be sent on a connection of its own: the client's, late or not, or one whose key
// is wrong, which must do nothing.
func (c *client) request() func() {
	pid, key := c.pid, append([]byte(nil), c.key...)
	own := chance(c.rng, 80)
	if !own {
		if chance(c.rng, 50) {
			key[c.rng.IntN(len(key))] ^= byte(1 + c.rng.IntN(255))
		} else {
			pid += uint32(1 + c.rng.IntN(3))
		}
	}
	delay := between(c.rng, 0, 150*time.Millisecond)
	mine, port := c.life, portOf(pick(c.rng, modes()...))
	return func() {
		<-time.After(delay)
		nc, err := c.w.network.DialFrom(context.Background(), mine.login.from, port)
		if err != nil {
			return // the drain has begun
		}
		defer nc.Close()
		if own {
			c.w.crowd.update(mine, func(l *life) { l.cancelled = time.Now() })
		}
		c.w.note("c"+mine.session, "asks to be cancelled (its own key: %t)", own)
		if _, err := nc.Write(wire.AppendCancelRequest(nil, pid, key)); err != nil {
			return
		}
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if n, err := nc.Read(make([]byte, 1)); n > 0 || err == nil {
			c.w.violation("a cancel request was answered with %d bytes, %v", n, err)
		}
	}
}

// operate is the operators and the misfortunes: reloads, killed backends, moods of the clusters.
func (w *world) operate(stop <-chan struct{}) {
	rng := w.rng(streamOperator)
	for {
		select {
		case <-stop:
			return
		case <-time.After(between(rng, 0, 400*time.Millisecond)):
		}
		pg := pick(rng, w.clusters...)
		switch n := rng.IntN(100); {
		case n < 8:
			w.reload(rng)
		case n < 30:
			if b := pg.victim(rng); b != nil {
				b.kill(death(rng.Uint32() % uint32(numDeaths)))
			}
		case n < 36:
			w.trouble(rng, pg, stop)
		case n < 40:
			if b := pg.victim(rng); b != nil {
				b.annoy()
			}
		}
	}
}

// reload changes the configuration. It is valid, so it is taken.
func (w *world) reload(rng *rand.Rand) {
	w.rules.draw(rng)
	w.note("operator", "reloads")
	w.outcomes.add("operator: reload")
	if err := w.srv.Reload(w.rules.config()); err != nil {
		w.violation("Reload: %v", err)
	}
}

// trouble gives a cluster a bad mood for a while.
func (w *world) trouble(rng *rand.Rand, pg *cluster, stop <-chan struct{}) {
	m := pick(rng,
		mood{down: true}, mood{refusal: "53300"}, mood{refusal: "57P03"}, mood{mute: true},
		mood{slow: between(rng, 0, 300*time.Millisecond)}, mood{sabotage: true}, mood{slowClose: between(rng, 0, 8*time.Second)},
	)
	w.note("operator", "%s: %+v", pg.name, m)
	w.outcomes.add("operator: trouble")
	pg.setMood(m)
	select {
	case <-stop:
	case <-time.After(between(rng, 0, 4*time.Second)):
	}
	pg.setMood(mood{})
}
