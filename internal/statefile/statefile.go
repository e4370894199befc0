// Package statefile keeps small files that survive a restart and that nobody but their own user can read or change.
//
// No symbolic link is followed at the end of a path, and a file is replaced as a whole or not at all.
package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	folderMode  = 0o700
	fileMode    = 0o600
	forOthers   = 0o077
	othersWrite = 0o022
	maxBytes    = 64 << 20 // 64 MiB: a million networks
)

// Dir is a folder with such files. A Dir is not locked: whoever writes a file sees to it that nobody else does.
type Dir struct{ path string }

// Open returns the folder at path, which it makes if it is not there; what it stands in must be there. The folder must be
// the own user's, and nobody else's to write to.
func Open(path string) (*Dir, error) {
	if err := os.Mkdir(path, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: is not a folder; links are not followed", path)
	}
	if err := private(info, othersWrite, os.Geteuid()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Dir{path: path}, nil
}

// Path returns where the file with that name is.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Read returns what is in the file. Errors name the file; one that is not there is fs.ErrNotExist.
func (d *Dir) Read(name string) ([]byte, error) {
	path := d.Path(name)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: is a symbolic link, which is not followed", path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	if err := private(info, forOthers, os.Geteuid()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if info.Size() > maxBytes {
		return nil, fmt.Errorf("%s: is larger than %d bytes", path, maxBytes)
	}
	return io.ReadAll(io.LimitReader(f, maxBytes))
}

// Write makes data the content of the file. When it returns nil the file survives a crash of the machine; when it
// returns an error the file is what it was, unless only the last step, syncing the folder, failed.
func (d *Dir) Write(name string, data []byte) error {
	if len(data) > maxBytes {
		return fmt.Errorf("%s: %d bytes are more than %d", d.Path(name), len(data), maxBytes)
	}
	path := d.Path(name + ".new")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash
		return err
	}
	if err := write(path, data); err != nil {
		_ = os.Remove(path)
		return err
	}
	if err := os.Rename(path, d.Path(name)); err != nil {
		_ = os.Remove(path)
		return err
	}
	return syncFolder(d.path)
}

func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// private reports why others than uid might change, or by bits see, what info is about.
func private(info fs.FileInfo, bits fs.FileMode, uid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || int(stat.Uid) != uid:
		return errors.New("belongs to another user")
	case info.Mode().Perm()&bits != 0:
		return fmt.Errorf("has permissions %04o, which let others in: %04o must be off", info.Mode().Perm(), bits)
	}
	return nil
}
