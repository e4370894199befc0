package statefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "state"))
	must(t, err)
	return d
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	d := opened(t)
	if _, err := d.Read("a.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v, want fs.ErrNotExist", err)
	}
	for _, text := range []string{"one", "", "three"} {
		must(t, d.Write("a.json", []byte(text)))
		again, err := Open(filepath.Dir(d.Path("a.json")))
		must(t, err)
		if got, err := again.Read("a.json"); err != nil || string(got) != text {
			t.Errorf("read %q, %v, want %q", got, err, text)
		}
	}
	for path, want := range map[string]fs.FileMode{d.path: fs.ModeDir | 0o700, d.Path("a.json"): 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	entries, err := os.ReadDir(d.path)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v, want the file alone", entries, err)
	}
}

func TestWhatACrashLeftIsReplaced(t *testing.T) {
	t.Parallel()
	d := opened(t)
	secret := filepath.Join(t.TempDir(), "elsewhere")
	must(t, os.WriteFile(secret, []byte("mine"), 0o600))
	must(t, os.Symlink(secret, d.Path("a.json.new")))
	must(t, d.Write("a.json", []byte("new")))
	if got, err := os.ReadFile(secret); err != nil || string(got) != "mine" {
		t.Errorf("behind the link stands %q, %v", got, err)
	}
	if got, err := d.Read("a.json"); err != nil || string(got) != "new" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestAFailedWriteLeavesTheFile(t *testing.T) {
	t.Parallel()
	d := opened(t)
	must(t, d.Write("a.json", []byte("old")))
	must(t, os.Mkdir(d.Path("a.json.new"), 0o700))
	must(t, os.WriteFile(filepath.Join(d.Path("a.json.new"), "x"), nil, 0o600))
	if err := d.Write("a.json", []byte("new")); err == nil {
		t.Error("written through a folder")
	}
	if got, err := d.Read("a.json"); err != nil || string(got) != "old" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestFilesThatOthersCanTouchAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about string
		spoil func(t *testing.T, d *Dir)
		want  string
	}{
		{"readable by the group", func(t *testing.T, d *Dir) { must(t, os.Chmod(d.Path("a"), 0o640)) }, "has permissions 0640"},
		{"a link", func(t *testing.T, d *Dir) {
			must(t, os.Rename(d.Path("a"), d.Path("b")))
			must(t, os.Symlink("b", d.Path("a")))
		}, "symbolic link"},
		{"a folder", func(t *testing.T, d *Dir) {
			must(t, os.Remove(d.Path("a")))
			must(t, os.Mkdir(d.Path("a"), 0o700))
		}, "not a regular file"},
		{"a pipe", func(t *testing.T, d *Dir) {
			must(t, os.Remove(d.Path("a")))
			must(t, syscall.Mkfifo(d.Path("a"), 0o600))
		}, "not a regular file"},
		{"too large", func(t *testing.T, d *Dir) { must(t, os.Truncate(d.Path("a"), maxBytes+1)) }, "is larger than"},
	} {
		d := opened(t)
		must(t, d.Write("a", []byte("x")))
		test.spoil(t, d)
		if got, err := d.Read("a"); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), d.Path("a")) {
			t.Errorf("%s: read %q, %v, want %q", test.about, got, err, test.want)
		}
	}
}

func TestFoldersThatOthersCanTouchAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shared, file, link := filepath.Join(dir, "shared"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	must(t, os.Mkdir(shared, 0o700))
	must(t, os.Chmod(shared, 0o770))
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Symlink(t.TempDir(), link))
	for path, want := range map[string]string{
		shared: "has permissions 0770", file: "is not a folder", link: "is not a folder",
		filepath.Join(dir, "none", "state"): "no such file or directory",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	info, err := os.Lstat(dir)
	must(t, err)
	if err := private(info, othersWrite, os.Geteuid()+1); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("a folder of another user: %v", err)
	}
}
