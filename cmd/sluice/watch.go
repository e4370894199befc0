package main

import (
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"os"
	"slices"

	"sluice/internal/config"
	"sluice/internal/watch"
	"sluice/proxy"
)

// watchAll is what config.Config.Watch is for files other than certificates to be watched.
const watchAll = "all"

// digests are what stands in files: a hash of each, the zero value for one that cannot be read.
type digests map[string][sha256.Size]byte

func digestsOf(files []string) digests {
	all := make(digests, len(files))
	for _, path := range files {
		all[path] = digestOf(path)
	}
	return all
}

func digestOf(path string) (sum [sha256.Size]byte) {
	f, err := os.Open(path)
	if err != nil {
		return sum
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return sum
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// watched returns the files whose change reloads cfg.
func (d *daemon) watched(cfg *config.Config) []string {
	files := slices.Clone(cfg.Files)
	if state := d.server.StateFile(); state != "" {
		files = append(files, state)
	}
	return files
}

// rewatch watches the files of cfg, if it wants that, and no others from now on. d.reloading is held.
func (d *daemon) rewatch(cfg *config.Config, seen digests) {
	if d.unwatch != nil {
		d.unwatch()
		d.unwatch = nil
	}
	files := d.watched(cfg)
	d.seen = digestsOf(files)
	for path := range d.seen {
		if sum, ok := seen[path]; ok { // from before it was loaded: what has changed since is still to be
			d.seen[path] = sum
		}
	}
	if cfg.Watch != watchAll {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.unwatch = cancel
	d.watchers.Go(func() { d.watch(ctx, files) })
}

// watch reloads when the files change, until ctx is done.
func (d *daemon) watch(ctx context.Context, files []string) {
	err := watch.Files(ctx, func() []string { return files }, func(err error) {
		if err != nil && ctx.Err() == nil {
			d.log.Warn("files cannot be watched", "error", err)
		}
		if d.filesChanged(files) && ctx.Err() == nil {
			_ = d.Reload(proxy.Author{Via: "watch"}) // logged
		}
	})
	if err != nil {
		d.log.Error("files cannot be watched", "error", err)
	}
}

// filesChanged reports whether the files are others than the last reload has seen, whatever came of it. What the API has
// written into the state file counts already.
func (d *daemon) filesChanged(files []string) bool {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	now := digestsOf(files)
	if state := d.server.StateFile(); state != "" && now[state] != d.seen[state] && !d.server.StateChanged() {
		d.seen[state] = now[state]
	}
	return !maps.Equal(now, d.seen)
}

// stopWatching ends the watch, and waits until it has ended.
func (d *daemon) stopWatching() {
	d.reloading.Lock()
	if d.unwatch != nil {
		d.unwatch()
		d.unwatch = nil
	}
	d.reloading.Unlock()
	d.watchers.Wait()
}
