package unixsocket

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder returns one whose path is short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// onlyEntry fails the test unless the folder holds the socket with these permissions, and nothing else.
func onlyEntry(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	info, err := os.Lstat(path)
	must(t, err)
	if len(entries) != 1 || info.Mode() != fs.ModeSocket|mode {
		t.Errorf("the folder holds %v, the socket has %v, want it alone, with %v", entries, info.Mode(), mode)
	}
}

func TestSocketHasItsPermissionsAndPath(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o777} { // whatever the umask is
		path := filepath.Join(folder(t), "sock")
		l, err := Listen(path, mode)
		must(t, err)
		onlyEntry(t, path, mode)
		if got := l.Addr().String(); got != path {
			t.Errorf("address %s, want %s", got, path)
		}
		nc, err := net.Dial("unix", path)
		must(t, err)
		accepted, err := l.Accept()
		must(t, err)
		if uid, err := PeerUID(accepted); err != nil || int(uid) != os.Geteuid() {
			t.Errorf("the peer is %d, %v, want %d", uid, err, os.Geteuid())
		}
		_, _ = nc.Close(), accepted.Close()
		must(t, l.Close())
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("after Close the socket is there: %v", err)
		}
	}
}

// The socket is not reachable before it has its permissions: it is made where only its user comes, and what stands in its
// place meanwhile is not touched.
func TestSocketIsMadeInAPrivateFolder(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	made, err := makeFolder(dir)
	must(t, err)
	if info, err := os.Lstat(made); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the folder has %v, %v, want 0700", info.Mode(), err)
	}
	born, path := filepath.Join(made, "s"), filepath.Join(dir, "sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: born, Net: "unix"})
	must(t, err)
	defer ln.Close()
	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	l := &Listener{UnixListener: ln, path: path}
	if err := l.publish(born, 0o600); err == nil || !os.IsExist(err) && !strings.Contains(err.Error(), "exists") {
		t.Errorf("published over a file: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Errorf("the file is %q, %v", got, err)
	}
}

func TestOnlyAStaleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	if _, err := Listen(path, 0o600); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("while somebody listens: %v", err)
	}
	must(t, stale.Close())
	l, err := Listen(path, 0o600)
	must(t, err)
	onlyEntry(t, path, 0o600)
	must(t, l.Close())

	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	if _, err := Listen(path, 0o600); err == nil || !strings.Contains(err.Error(), path+": is there, and is no socket") {
		t.Errorf("where a file is: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Errorf("the file is %q, %v", got, err)
	}
	if _, err := Listen(filepath.Join(folder(t), "none", "sock"), 0o600); err == nil || !os.IsNotExist(err) {
		t.Errorf("without a folder: %v", err)
	}
}

func TestCloseLeavesTheSocketOfItsSuccessor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "sock")
	first, err := Listen(path, 0o600)
	must(t, err)
	must(t, os.Remove(path)) // an operator, say
	second, err := Listen(path, 0o600)
	must(t, err)
	must(t, first.Close())
	onlyEntry(t, path, 0o600)
	must(t, second.Close())
}

func TestPeerOfWhatIsNoSocket(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	if _, err := PeerUID(near); err == nil {
		t.Error("a pipe has a peer")
	}
	must(t, near.Close())
}
