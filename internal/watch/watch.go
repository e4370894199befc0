// Package watch tells when files change on disk.
package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	watchQuiet = 200 * time.Millisecond // files that belong together are written one after the other
	maxFollow  = 5                      // how often folders are looked for that go on changing
	watchDelay = 2 * time.Second        // however busy the folder, a change is told of after this long
)

// Files calls changed when the files that list names may have changed, and once when the watch begins, until ctx is done.
// Then it returns nil; it returns an error if none of the folders can be watched.
//
// It watches the folders of the files, and those that symbolic links lead to, so that renames over a file, the swapped
// links of Kubernetes and a folder that is replaced count. It calls changed, on the goroutine that called Files, when events have
// stopped for 200 ms, with an error if something cannot be watched. Whether a file is another one now is for changed to find out.
func Files(ctx context.Context, list func() []string, changed func(error)) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer notify.Close()
	w := &watch{list: list, changed: changed, notify: notify}
	w.refresh() // also for what changed before the folders were watched
	if len(notify.WatchList()) == 0 {
		return errors.New("watch files: none of their folders can be watched")
	}
	return w.run(ctx)
}

// watch is the state of one call of Files. All its paths are free of symbolic links, so that each folder has one.
type watch struct {
	list    func() []string
	changed func(error)
	notify  *fsnotify.Watcher
	folders map[string]bool // every event in them counts
	names   map[string]bool // in the folders above, only these count
}

func (w *watch) run(ctx context.Context) error {
	quiet := time.NewTimer(watchQuiet)
	quiet.Stop()
	defer quiet.Stop()
	var due time.Time // when to read at the latest; zero: nothing has changed
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-w.notify.Events:
			if !w.concerns(event) {
				continue
			}
		case err := <-w.notify.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // which only means that some events were lost
				w.changed(fmt.Errorf("watch files: %w", err))
			}
		case <-quiet.C:
			due = time.Time{}
			w.refresh()
			continue
		}
		if due.IsZero() {
			due = time.Now().Add(watchDelay)
		}
		quiet.Reset(min(watchQuiet, time.Until(due)))
	}
}

// concerns reports whether event may mean that a file has changed.
func (w *watch) concerns(event fsnotify.Event) bool {
	return w.folders[event.Name] || w.names[event.Name] || w.folders[filepath.Dir(event.Name)]
}

// refresh follows links and folders to where they lead now, and then has the files looked at.
func (w *watch) refresh() { w.changed(w.follow()) }

// follow watches the folders in which the files are now, and stops watching those in which they were. It looks again until
// they are where they were looked for: a link that was swapped before its folder was watched is told of by no event.
func (w *watch) follow() (err error) {
	for range maxFollow {
		before := w.folders
		if err = w.followOnce(); err == nil && maps.Equal(before, w.folders) {
			return nil
		}
	}
	return err
}

// followOnce is follow for where the files are at one moment.
func (w *watch) followOnce() error {
	above, err := w.locate()
	problems := []error{err}
	for _, folder := range w.notify.WatchList() {
		if !w.folders[folder] && !above[folder] {
			_ = w.notify.Remove(folder) // fails only if the folder is gone, and its watch with it
		}
	}
	for folder := range above {
		_ = w.notify.Add(folder) // may be closed to us; then only what happens in the folder itself is seen
	}
	for folder := range w.folders {
		if err := w.notify.Add(folder); err != nil {
			problems = append(problems, fmt.Errorf("watch files in %s: %w", folder, err))
		}
	}
	return errors.Join(problems...)
}

// locate sets folders and names to where the files are now, and returns the folders that hold those names.
func (w *watch) locate() (above map[string]bool, err error) {
	w.folders, w.names, above = map[string]bool{}, map[string]bool{}, map[string]bool{}
	var problems []error
	for _, file := range w.list() {
		folder, err := filepath.Abs(filepath.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("watch files: %w", err)
		}
		if parent, err := filepath.EvalSymlinks(filepath.Dir(folder)); err == nil {
			above[parent] = true
			w.names[filepath.Join(parent, filepath.Base(folder))] = true
		}
		resolved, err := filepath.EvalSymlinks(folder)
		if err != nil {
			problems = append(problems, fmt.Errorf("watch files: %w", err))
			continue
		}
		w.folders[resolved] = true
		if target, err := filepath.EvalSymlinks(filepath.Join(resolved, filepath.Base(file))); err == nil {
			w.folders[filepath.Dir(target)] = true // else reading the file says what is wrong
		}
	}
	return above, errors.Join(problems...)
}
