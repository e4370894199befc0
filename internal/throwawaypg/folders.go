package throwawaypg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// maxSocketPath is the longest path of a Unix socket that every system takes: 104 bytes with the final zero on macOS
// and the BSDs, 108 on Linux.
const maxSocketPath = 103

// enterable lets the server's owner, and clients of the Unix socket, get in.
const enterable os.FileMode = 0o755

// owner is the user that Postgres runs as. The zero value is the user of this process.
type owner struct {
	other    bool
	uid, gid int
}

// serverOwner returns somebody else when this process is root, because Postgres refuses to run as root.
func serverOwner() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return owner{other: true, uid: uid, gid: gid}, nil
		}
	}
	return owner{}, errors.New("run by root, and there is neither a user postgres nor a user nobody to run as")
}

// credential returns nil for the user of this process.
func (o owner) credential() *syscall.Credential {
	if !o.other {
		return nil
	}
	return &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
}

func (o owner) take(path string) error {
	if !o.other {
		return nil
	}
	return os.Chown(path, o.uid, o.gid)
}

// folders are where a cluster lives on disk.
type folders struct {
	root   string
	data   string // 0700, of the server's owner
	socket string // 0755, of the server's owner; elsewhere than in root when that path is too long
	made   []string
}

// makeFolders makes root, or a temporary folder, and what belongs in it. What it could make is returned along with
// an error.
func makeFolders(root string, o owner) (folders, error) {
	f := folders{root: root}
	if err := f.makeRoot(o); err != nil {
		return f, err
	}
	f.data = filepath.Join(f.root, "data")
	if err := f.mkdir(f.data, 0o700, o); err != nil {
		return f, err
	}
	f.socket = filepath.Join(f.root, "socket")
	if len(filepath.Join(f.socket, socketName(65535)+".lock")) > maxSocketPath {
		short, err := os.MkdirTemp("/tmp", "sluice-pg-")
		if err != nil {
			return f, err
		}
		f.made = append(f.made, short)
		f.socket = filepath.Join(short, "s")
		if err := os.Chmod(short, enterable); err != nil {
			return f, err
		}
	}
	return f, f.mkdir(f.socket, enterable, o)
}

func (f *folders) makeRoot(o owner) error {
	if f.root == "" {
		parent := os.TempDir()
		if o.other && traversable(parent) != nil {
			parent = "/tmp"
		}
		root, err := os.MkdirTemp(parent, "sluice-pg-")
		if err != nil {
			return err
		}
		f.root, f.made = root, append(f.made, root)
		return os.Chmod(root, enterable)
	}
	root, err := filepath.Abs(f.root)
	if err != nil {
		return err
	}
	f.root = root
	if err := f.mkdir(root, enterable, owner{}); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if o.other {
		return traversable(root)
	}
	return nil
}

func (f *folders) mkdir(path string, mode os.FileMode, o owner) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	f.made = append(f.made, path)
	if err := os.Chmod(path, mode); err != nil { // the umask took some of it
		return err
	}
	return o.take(path)
}

// traversable returns an error if a user without rights of its own cannot reach path.
func traversable(path string) error {
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s cannot be entered by the user that Postgres runs as", dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// write makes a file in the data folder that only the server's owner can read.
func (f folders) write(name string, content []byte, o owner) error {
	path := filepath.Join(f.data, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return o.take(path)
}

// remove deletes what was made, the last first. It is called once nothing of Postgres runs any more.
func (f folders) remove() error {
	var errs []error
	for i := len(f.made) - 1; i >= 0; i-- {
		errs = append(errs, os.RemoveAll(f.made[i]))
	}
	return errors.Join(errs...)
}

func socketName(port int) string { return ".s.PGSQL." + strconv.Itoa(port) }
