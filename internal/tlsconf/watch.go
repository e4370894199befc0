package tlsconf

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	watchQuiet = 200 * time.Millisecond // a certificate and its key are written one after the other
	watchDelay = 2 * time.Second        // however busy the folder, a change is read after this long
)

// Watch reloads s when the files change, until ctx is done. Then it returns nil; it returns an error if none of
// the folders can be watched. On a disabled Server it only waits.
//
// It watches the folders of the files, and those that symbolic links lead to, so that renames over a file, the swapped
// links of Kubernetes and a folder that is replaced count. It reads the files when events have stopped for 200 ms. onReload is called, by the goroutine that
// called Watch, after a reload that replaced the configurations, with nil; when the files are in a state that cannot be
// loaded, with the error, once per different error; and with nil when they are back as they were.
func (s *Server) Watch(ctx context.Context, onReload func(error)) error {
	if !s.Enabled() {
		<-ctx.Done()
		return nil
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch certificates: %w", err)
	}
	defer notify.Close()
	w := &watch{server: s, notify: notify, onReload: onReload}
	w.refresh() // also for what changed before the folders were watched
	if len(notify.WatchList()) == 0 {
		return errors.New("watch certificates: none of their folders can be watched")
	}
	return w.run(ctx)
}

// watch is the state of one call of Watch. All its paths are free of symbolic links, so that each folder has one.
type watch struct {
	server   *Server
	notify   *fsnotify.Watcher
	onReload func(error)
	folders  map[string]bool // every event in them counts
	names    map[string]bool // in the folders above, only these count
	failure  string          // the last error reported, empty after a success
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
				w.report(false, fmt.Errorf("watch certificates: %w", err))
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

// refresh follows links and folders to where they lead now, then reloads.
func (w *watch) refresh() {
	followErr := w.follow()
	changed, err := w.server.reload()
	w.report(changed, errors.Join(err, followErr))
}

// follow watches the folders in which the files are now, and stops watching those in which they were.
func (w *watch) follow() error {
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
			problems = append(problems, fmt.Errorf("watch certificates in %s: %w", folder, err))
		}
	}
	return errors.Join(problems...)
}

// locate sets folders and names to where the files are now, and returns the folders that hold those names.
func (w *watch) locate() (above map[string]bool, err error) {
	w.folders, w.names, above = map[string]bool{}, map[string]bool{}, map[string]bool{}
	var problems []error
	for _, file := range w.server.params.files() {
		folder, err := filepath.Abs(filepath.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("watch certificates: %w", err)
		}
		if parent, err := filepath.EvalSymlinks(filepath.Dir(folder)); err == nil {
			above[parent] = true
			w.names[filepath.Join(parent, filepath.Base(folder))] = true
		}
		resolved, err := filepath.EvalSymlinks(folder)
		if err != nil {
			problems = append(problems, fmt.Errorf("watch certificates: %w", err))
			continue
		}
		w.folders[resolved] = true
		if target, err := filepath.EvalSymlinks(filepath.Join(resolved, filepath.Base(file))); err == nil {
			w.folders[filepath.Dir(target)] = true // else reading the file says what is wrong
		}
	}
	return above, errors.Join(problems...)
}

// report tells onReload the outcome of a reload if it is news.
func (w *watch) report(changed bool, err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	if changed || failure != w.failure {
		w.failure = failure
		w.onReload(err)
	}
}
