package pgscript

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"
)

// mailbox is what a connection listens to, and what it is told.
type mailbox struct {
	mu       sync.Mutex // guards below
	channels map[string]bool
	waiting  []*pgproto3.NotificationResponse
	idle     bool // the connection waits for a message, outside of a transaction: what comes is sent at once
}

// notifying is LISTEN, UNLISTEN or NOTIFY, done when the transaction commits.
type notifying struct{ verb, channel, payload string }

// notify runs LISTEN channel, UNLISTEN {channel|*} and NOTIFY channel[, payload].
func (c *ServerConn) notify(verb, rest string) result {
	channel, payload, _ := strings.Cut(rest, ",")
	c.notifying = append(c.notifying, notifying{verb, strings.Trim(strings.TrimSpace(channel), `"`), unquote(strings.TrimSpace(payload))})
	return result{tag: verb}
}

// commitNotifying does what the transaction has asked for. Notifications reach all in one order.
func (c *ServerConn) commitNotifying() {
	c.server.notifyMu.Lock()
	defer c.server.notifyMu.Unlock()
	for _, n := range c.notifying {
		switch n.verb {
		case "NOTIFY":
			for _, other := range c.server.Conns() {
				if other.Database == c.Database {
					other.tell(&pgproto3.NotificationResponse{PID: c.PID, Channel: n.channel, Payload: n.payload})
				}
			}
		default:
			c.box.listen(n)
		}
	}
	c.notifying = nil
}

func (b *mailbox) listen(n notifying) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case n.verb == "LISTEN" && b.channels == nil:
		b.channels = map[string]bool{n.channel: true}
	case n.verb == "LISTEN":
		b.channels[n.channel] = true
	case n.channel == "*":
		clear(b.channels)
	default:
		delete(b.channels, n.channel)
	}
}

// tell passes a notification to a connection, if it listens.
func (c *ServerConn) tell(n *pgproto3.NotificationResponse) {
	b := &c.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.channels[n.Channel] {
		return
	}
	b.waiting = append(b.waiting, n)
	c.writeWaiting()
}

// writeWaiting sends an idle connection what has come. The mutex is held, and the connection's goroutine sends nothing.
func (c *ServerConn) writeWaiting() {
	if !c.box.idle || c.server.now().LateNews {
		return
	}
	for _, n := range c.box.waiting {
		if raw, err := n.Encode(nil); err == nil {
			_, _ = c.nc.Write(raw)
		}
	}
	c.box.waiting = nil
}

// setIdle says whether the connection waits. What has come is sent in front of ReadyForQuery.
func (c *ServerConn) setIdle(idle bool) {
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	c.box.idle = idle && c.status == 'I'
	c.writeWaiting()
}

// sendNotifications sends what has come while the connection was busy.
func (c *ServerConn) sendNotifications() {
	if c.status != 'I' {
		return
	}
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	for _, n := range c.box.waiting {
		c.be.Send(n)
	}
	c.box.waiting = nil
}

// Channels returns what the connection listens to.
func (c *ServerConn) Channels() []string {
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	return slices.Sorted(maps.Keys(c.box.channels))
}

// holdings answers the question what the session holds: rows of s, a setting, its value and its default, and of l and a channel.
func (c *ServerConn) holdings() (rows [][][]byte) {
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		if value, usual := c.settings[name], c.defaults[name]; value != usual && name != "application_name" {
			rows = append(rows, [][]byte{[]byte("s"), []byte(name), []byte(value), []byte(usual)})
		}
	}
	for _, channel := range c.Channels() {
		rows = append(rows, [][]byte{[]byte("l"), []byte(channel), nil, nil})
	}
	return rows
}

// Open reports whether the connection lives.
func (c *ServerConn) Open() bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.server.open[c.raw]
}
