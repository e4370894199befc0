package proxy

import (
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// fromBackend takes what the connection has sent.
func (h *hub) fromBackend(p []byte) {
	if len(h.held) > 0 {
		p = append(h.held, p...)
	}
	for {
		typ, body, ok, err := wire.Header(p)
		if err != nil || ok && body > maxWaiting {
			h.lost(fmt.Errorf("message %q of %d bytes", typ, body))
			return
		}
		if !ok || len(p) < wire.HeaderLen+body {
			break
		}
		h.message(typ, p[:wire.HeaderLen+body])
		if h.bc == nil {
			return
		}
		p = p[wire.HeaderLen+body:]
	}
	h.held = append([]byte(nil), p...)
	h.tell()
}

// message takes one message.
func (h *hub) message(typ byte, msg []byte) {
	body := msg[wire.HeaderLen:]
	switch typ {
	case wire.NotificationResponse:
		h.notified(msg)
	case wire.ErrorResponse:
		h.refused = errorText(body)
	case wire.ReadyForQuery:
		h.answered()
	}
}

// notified passes a notification on to the ears that want it.
func (h *hub) notified(msg []byte) {
	channel, payload, ok := notificationOf(msg)
	if !ok {
		return
	}
	switch channel {
	case h.voices:
		h.spoke(msg, payload)
		return
	case h.marker:
		if token, err := strconv.ParseUint(payload, 10, 64); err == nil {
			for _, e := range h.ears {
				e.news = append(e.news, news{token: token})
			}
		}
		return
	}
	ears := h.channels[channel]
	if len(ears) == 0 {
		return
	}
	n := news{channel: channel, msg: append([]byte(nil), msg...), ascii: isASCII(msg[wire.HeaderLen+4:])}
	h.attribute(n.msg)
	for e := range ears {
		e.news = append(e.news, n)
	}
}

// answered deals with the end of a query.
func (h *hub) answered() {
	done := h.asked
	h.asked, h.busy = nil, false
	h.timer.Stop()
	if h.refused != "" { // nothing of it has been done
		err := fmt.Errorf("%w: %s", errNoListener, h.refused)
		h.next = append(done, h.next...)
		h.lost(err)
		return
	}
	h.retry = firstRetry
	h.heedSpeakers(h.voices)
	for _, r := range done {
		r.ear.news = append(r.ear.news, news{done: r.done})
	}
	h.kick()
}

// tell has the ears told what there is news of.
func (h *hub) tell() {
	for _, e := range h.ears {
		if news := e.news; len(news) > 0 {
			e.news = nil
			e.post(func() { e.hear(news) })
		}
	}
}

// notificationOf reads a NotificationResponse.
func notificationOf(msg []byte) (channel, payload string, ok bool) {
	if len(msg) < wire.HeaderLen+4 {
		return "", "", false
	}
	name, rest, ok := wire.CString(msg[wire.HeaderLen+4:])
	text, _, ended := wire.CString(rest)
	return string(name), string(text), ok && ended
}

// errorText returns the message of an ErrorResponse.
func errorText(body []byte) string {
	var r pgproto3.ErrorResponse
	if err := r.Decode(body); err != nil {
		return "unreadable error"
	}
	return r.Code + " " + r.Message
}
