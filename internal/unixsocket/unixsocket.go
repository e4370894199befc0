// Package unixsocket listens on Unix sockets that nobody else can reach before they have their permissions, and tells whose
// process connects.
package unixsocket

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	folderMode   = 0o700
	randomLetter = 6           // of a folder's name
	folderTries  = 5           // if somebody has that name already
	answerTime   = time.Second // for whoever listens on a socket that is there
)

// Listener is a Unix socket. Close removes its path, unless that is another's by then.
type Listener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// Listen opens a Unix socket at path with these permissions. It is made in a folder of the own user's and moved from there, so
// that it never has others. A socket that nobody listens on any more is replaced, and nothing else. It blocks for a second at
// most. Errors name the path.
func Listen(path string, mode fs.FileMode) (*Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	folder, err := makeFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	born := filepath.Join(folder, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: born, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	l := &Listener{UnixListener: ln, path: path}
	if err := l.publish(born, mode); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return l, nil
}

// publish gives the socket its permissions and its path.
func (l *Listener) publish(born string, mode fs.FileMode) (err error) {
	if err := os.Chmod(born, mode); err != nil {
		return err
	}
	if l.made, err = os.Lstat(born); err != nil {
		return err
	}
	// A link, unlike renaming, replaces nothing that has come to stand there. Not every file system has links of sockets.
	err = os.Link(born, l.path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(born, l.path)
}

// makeFolder makes a folder for the own user alone. Its name is short: the system bounds the path of a socket.
func makeFolder(in string) (path string, err error) {
	for range folderTries {
		path = filepath.Join(in, "."+strings.ToLower(rand.Text()[:randomLetter]))
		if err = os.Mkdir(path, folderMode); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return path, err
}

// Addr returns the path.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close implements net.Listener.
func (l *Listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
		_ = os.Remove(l.path) // what cannot be removed is found to be stale
	}
	return l.UnixListener.Close()
}

// removeStale removes a socket that nobody listens on any more, and nothing else. Whoever does not answer, such as a
// process with a long queue, is alive: only a refused connection proves that nobody listens.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s: is there, and is no socket", path)
	}
	nc, err := net.DialTimeout("unix", path, answerTime)
	switch {
	case err == nil:
		_ = nc.Close()
		return fmt.Errorf("%s: in use by another process", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("%s: in use by another process, as far as can be told: %w", path, err)
}
