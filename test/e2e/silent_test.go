package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const (
	silentClients     = 10000
	spareDescriptors  = 1500 // for everything else in a process
	beyondMaxClients  = 1000 // connections that may log in beside limits.max_clients
	silentClientBytes = 24 << 10
	silentAddresses   = "SLUICE_TEST_SILENT_ADDRESSES" // where the process holds connections open, instead of testing
	silentNumber      = "SLUICE_TEST_SILENT_NUMBER"
)

// holdSilent opens connections, says so, and holds them until its standard input ends.
func holdSilent() error {
	n, err := strconv.Atoi(os.Getenv(silentNumber))
	if err != nil {
		return err
	}
	addresses := strings.Fields(os.Getenv(silentAddresses))
	conns := make([]net.Conn, n)
	errs := make([]error, len(addresses))
	var wg sync.WaitGroup
	for first, address := range addresses {
		wg.Go(func() {
			for i := first; i < n && errs[first] == nil; i += len(addresses) {
				conns[i], errs[first] = net.Dial("tcp", address)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
	return err
}

// silent has another process open n connections to both ports and say nothing, until the test ends.
func (r *rig) silent(n int) {
	r.t.Helper()
	self, err := os.Executable()
	must(r.t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), silentAddresses+"="+r.addr["session"]+" "+r.addr["transaction"], fmt.Sprintf("%s=%d", silentNumber, n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(r.t, err)
	out, err := cmd.StdoutPipe()
	must(r.t, err)
	must(r.t, cmd.Start())
	r.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		r.t.Fatalf("the silent clients said %q, %v", line, err)
	}
}

// footprint is what the process has taken for objects and stacks, garbage aside.
func footprint() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Connections that say nothing, more than Sluice has room for, cost little memory and keep nobody out. Not parallel: it
// measures the memory of the process, and takes most of its descriptors.
func TestTenThousandSilentConnectionsHurtNobody(t *testing.T) {
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	n := silentClients
	if limit.Cur < silentClients+spareDescriptors { // a system that allows less
		n = max(1, int(limit.Cur)-spareDescriptors)
	}
	room := max(1, n-2*beyondMaxClients) + beyondMaxClients
	yaml := strings.Replace(base(cluster, ""), "admin:", fmt.Sprintf("limits: {max_clients: %d, login_timeout: 10m}\nadmin:", room-beyondMaxClients), 1)
	r := start(t, cluster, yaml)
	served := r.connect("transaction", "alice", "")
	before := footprint()
	r.silent(n)
	for range 5 {
		for _, mode := range []string{"session", "transaction"} {
			c := r.connect(mode, "bob", "")
			if got := r.value(c, "SELECT 'served'"); got != "served" {
				t.Errorf("got %q", got)
			}
			must(t, c.Close(r.ctx()))
		}
	}
	if got := r.value(served, "SELECT 'served'"); got != "served" {
		t.Errorf("a client from before: got %q", got)
	}
	if left := n - room; left > 0 {
		r.eventually("those that are too many have made room", func() bool {
			return strings.Count(r.logs.String(), "reason=crowded_out") >= left
		})
	}
	grown := footprint() - before - int64(r.logs.Cap())
	if most := int64(n * silentClientBytes); grown > most {
		t.Errorf("%d silent connections take %d KiB, want at most %d", n, grown>>10, most>>10)
	}
	t.Logf("%d silent connections, %d made room; %d bytes each", n, strings.Count(r.logs.String(), "reason=crowded_out"), grown/int64(n))
}
