package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestCPUOfThisProcessAndItsChildren(t *testing.T) {
	before, err := treeCPU(os.Getpid())
	if err != nil {
		t.Fatalf("treeCPU: %v", err)
	}
	child := exec.Command("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := treeCPU(os.Getpid())
	if err != nil {
		t.Fatalf("treeCPU: %v", err)
	}
	// What the child has used is counted in ticks once it was waited for.
	used := child.ProcessState.UserTime() + child.ProcessState.SystemTime()
	if got, want := after-before, used-2*time.Second/ticksPerSecond; got < want {
		t.Errorf("treeCPU: grew by %s, want at least %s for a child that used %s", got, want, used)
	}
	own, err := processCPU(os.Getpid())
	if err != nil || own <= 0 || own > after+time.Hour {
		t.Errorf("processCPU: got %s, %v", own, err)
	}
	if rss, err := residentBytes(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("residentBytes: got %d, %v, want more than a megabyte", rss, err)
	}
}
