package watch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// patience bounds the waits for the operating system; a test that passes waits for far less.
const patience = 20 * time.Second

func TestFilesInSeveralFoldersAreWatched(t *testing.T) {
	t.Parallel()
	dirs := []string{t.TempDir(), t.TempDir()}
	var files []string
	for _, dir := range dirs {
		files = append(files, filepath.Join(dir, "list.txt"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan error), make(chan error, 1)
	go func() {
		ended <- Files(ctx, func() []string { return files }, func(err error) {
			select {
			case told <- err:
			case <-ctx.Done():
			}
		})
	}()
	wantTold := func(about string) {
		t.Helper()
		select {
		case err := <-told:
			if err != nil {
				t.Errorf("%s: %v", about, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: not told", about)
		}
	}
	wantTold("the beginning")
	for _, file := range files { // neither is there yet
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantTold("written " + file)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	wantTold("removed " + files[0])
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Files: %v", err)
	}
}
