package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// probeTimeout bounds the wait for one answer.
const probeTimeout = 30 * time.Second

// probe measures how long one query takes on a connection of its own. It reads and writes by blocking system calls, as
// libpq does: waking a goroutine through Go's poller would take longer than what is measured.
type probe struct {
	file    *os.File
	fd      int
	request []byte
	first   byte // of an answer that is no error
	buffer  [16 << 10]byte
}

// newProbe logs in, without TLS, and prepares its statement. The caller must close it.
func (d *dialer) newProbe(ctx context.Context, address, mode string) (*probe, error) {
	const sql = "SELECT abalance FROM pgbench_accounts WHERE aid = 1"
	s, err := d.login(ctx, address, false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // the probe has a descriptor of its own
	p := &probe{}
	messages := []pgproto3.FrontendMessage{&pgproto3.Query{String: sql}}
	p.first = 'T'
	if mode == modePrepared {
		if err := s.prepare("probe", sql); err != nil {
			return nil, err
		}
		messages = []pgproto3.FrontendMessage{&pgproto3.Bind{PreparedStatement: "probe"}, &pgproto3.Execute{}, &pgproto3.Sync{}}
		p.first = '2'
	}
	for _, m := range messages {
		if p.request, err = m.Encode(p.request); err != nil {
			return nil, err
		}
	}
	if p.file, err = s.Conn.(*net.TCPConn).File(); err != nil {
		return nil, err
	}
	p.fd = int(p.file.Fd()) // which makes it block
	timeout := syscall.NsecToTimeval(probeTimeout.Nanoseconds())
	if err := syscall.SetsockoptTimeval(p.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// prepare parses a statement under a name.
func (s *session) prepare(name, sql string) error {
	s.frontend.Send(&pgproto3.Parse{Name: name, Query: sql})
	s.frontend.Send(&pgproto3.Sync{})
	if err := s.frontend.Flush(); err != nil {
		return err
	}
	_, err := s.untilReady()
	return err
}

func (p *probe) close() { _ = p.file.Close() }

// query runs the statement once.
func (p *probe) query() (time.Duration, error) {
	start := time.Now()
	if _, err := syscall.Write(p.fd, p.request); err != nil {
		return 0, fmt.Errorf("probe: send: %w", err)
	}
	n := 0
	for !bytes.HasSuffix(p.buffer[:n], []byte{'Z', 0, 0, 0, 5, 'I'}) {
		got, err := syscall.Read(p.fd, p.buffer[n:])
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || got == 0 {
			return 0, fmt.Errorf("probe: receive after %d bytes: %w", n, errors.Join(err, errors.New("connection lost")))
		}
		n += got
	}
	if took := time.Since(start); p.buffer[0] == p.first {
		return took, nil
	}
	return 0, fmt.Errorf("probe: answered with %q", p.buffer[:n])
}

// repeat runs the statement some times and appends how long each took.
func (p *probe) repeat(times int, to []time.Duration) ([]time.Duration, error) {
	for range times {
		took, err := p.query()
		if err != nil {
			return to, err
		}
		to = append(to, took)
	}
	return to, nil
}

// measureLatency asks the targets in turns, a block of queries each, until each had its share of the time.
func measureLatency(mode string, duration time.Duration) measurement {
	return func(ctx context.Context, r *rig, s sheet) error {
		const block = 200
		targets := r.targets()
		probes, took := make([]*probe, len(targets)), make([][]time.Duration, len(targets))
		for i, t := range targets {
			var err error
			if probes[i], err = r.dialer.newProbe(ctx, t.address, mode); err != nil {
				return err
			}
			defer probes[i].close()
		}
		for end := time.Now().Add(duration * time.Duration(len(targets))); time.Now().Before(end) && ctx.Err() == nil; {
			for i, p := range probes {
				var err error
				if took[i], err = p.repeat(block, took[i]); err != nil {
					return err
				}
			}
		}
		for i, t := range targets {
			s.put(t.name, metricLatency, medianMicros(took[i]))
		}
		s.putAdded()
		return nil
	}
}

// measureDuringStorm asks one query after the other while others log in with TLS.
func measureDuringStorm(duration time.Duration) targetMeasurement {
	return func(ctx context.Context, r *rig, t target, s sheet) error {
		p, err := r.dialer.newProbe(ctx, t.address, modeSimple)
		if err != nil {
			return err
		}
		defer p.close()
		storm, err := r.startStorm(ctx, t, true, duration)
		if err != nil {
			return err
		}
		var took []time.Duration
		for end := time.Now().Add(duration); err == nil && time.Now().Before(end) && ctx.Err() == nil; {
			took, err = p.repeat(1, took)
		}
		if _, stormErr := storm.wait(); err != nil || stormErr != nil {
			return errors.Join(err, stormErr)
		}
		s.put(t.name, metricStorm, medianMicros(took))
		return nil
	}
}
