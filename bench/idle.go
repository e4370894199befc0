package main

import (
	"context"
	"time"
)

// settleTime is what a pooler has to give back what logins needed.
const settleTime = 5 * time.Second

// memory is what an idle client costs: by how much a pooler that has just been started grows when clients log in, run
// a statement each and then do nothing.
func memory(clients int, encrypted bool) targetMeasurement {
	return func(ctx context.Context, r *rig, t target, s sheet) error {
		fresh, err := r.startPooler(ctx, t.name)
		if err != nil {
			return err
		}
		defer fresh.stop()
		before, err := settled(ctx, fresh.pid)
		if err != nil {
			return err
		}
		idle, err := r.dialer.loginMany(ctx, fresh.address, encrypted, clients, "SELECT 1")
		defer endAll(idle)
		if err != nil {
			return err
		}
		after, err := settled(ctx, fresh.pid)
		if err != nil {
			return err
		}
		s.put(t.name, metricMemory, float64(after-before)/float64(clients))
		return nil
	}
}

// settled returns the resident memory of a process after some time.
func settled(ctx context.Context, pid int) (int64, error) {
	if err := pause(ctx, settleTime); err != nil {
		return 0, err
	}
	return residentBytes(pid)
}
