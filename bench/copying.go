package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// copyMessageBytes is what psql and libpq put into one CopyData, and into one write.
const copyMessageBytes = 8 << 10 // 8 KiB

// copyMessages is how many of them one COPY in has: 100 MB.
const copyMessages = 100_000_000 / copyMessageBytes

// copier copies once and returns how many bytes.
type copier func(s *session) (int64, error)

// copying repeats a COPY until the time is over and takes down what a gigabyte (10⁹ bytes) costs.
func copying(once copier, encrypted bool, duration time.Duration) targetMeasurement {
	return func(ctx context.Context, r *rig, t target, s sheet) error {
		session, err := r.dialer.login(ctx, t.address, encrypted)
		if err != nil {
			return err
		}
		defer session.end()
		if err := session.SetDeadline(time.Now().Add(duration + graceTime)); err != nil {
			return err
		}
		start, err := r.usage(t)
		if err != nil {
			return err
		}
		var copied int64
		began := time.Now()
		for time.Since(began) < duration && ctx.Err() == nil {
			n, err := once(session)
			if err != nil {
				return err
			}
			copied += n
		}
		seconds := time.Since(began).Seconds()
		end, err := r.usage(t)
		if err != nil {
			return err
		}
		if copied == 0 {
			return errors.New("nothing was copied")
		}
		used, gigabytes := end.since(start), float64(copied)/1e9
		s.put(t.name, metricCopyRate, gigabytes*1e3/seconds)
		s.put(t.name, metricCopyTogether, (used.pooler+used.postgres).Seconds()/gigabytes)
		if t.pid != 0 {
			s.put(t.name, metricCopy, used.pooler.Seconds()/gigabytes)
		}
		return nil
	}
}

// copyOut reads pgbench's largest table, a message for each row.
func copyOut(s *session) (int64, error) {
	s.frontend.SendQuery(&pgproto3.Query{String: "COPY pgbench_accounts TO STDOUT"})
	if err := s.frontend.Flush(); err != nil {
		return 0, err
	}
	return s.untilReady()
}

// copyInMuch is a copyIn of 100 MB.
func copyInMuch(s *session) (int64, error) { return copyIn(s, copyMessages) }

// copyIn sends messages full of rows that Postgres reads and then leaves out, so that no table grows.
func copyIn(s *session, messages int) (int64, error) {
	message := copyMessage()
	s.frontend.SendQuery(&pgproto3.Query{String: "COPY pgbench_accounts FROM STDIN WHERE false"})
	if err := s.frontend.Flush(); err != nil {
		return 0, err
	}
	answer, err := s.frontend.Receive()
	if err != nil {
		return 0, err
	}
	if _, ok := answer.(*pgproto3.CopyInResponse); !ok {
		return 0, fmt.Errorf("COPY in: answered with %T", answer)
	}
	var sent int64
	for range messages {
		if _, err := s.Write(message); err != nil {
			return sent, err
		}
		sent += int64(len(message))
	}
	s.frontend.Send(&pgproto3.CopyDone{})
	if err := s.frontend.Flush(); err != nil {
		return sent, err
	}
	_, err = s.untilReady()
	return sent, err
}

// copyMessage returns a CopyData with as many rows of pgbench_accounts as it holds.
func copyMessage() []byte {
	row := append([]byte("1\t1\t0\t"), append(bytes.Repeat([]byte(" "), 84), '\n')...)
	message, err := (&pgproto3.CopyData{Data: bytes.Repeat(row, copyMessageBytes/len(row))}).Encode(nil)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return message
}
