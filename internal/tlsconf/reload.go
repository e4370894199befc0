package tlsconf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sluice/internal/watch"
)

// reloader holds what was made of files, and makes it anew.
type reloader struct {
	files   []string // that load reads
	load    func() (*material, error)
	reloads atomic.Uint64 // loads begun; orders those that overlap
	current atomic.Pointer[material]
}

// Reload reads all files again and swaps the configurations at once. If anything is wrong the old ones stay and the
// error names the file. Files that have not changed keep their configuration and its session tickets.
// A certificate that has expired is no error, see Warnings.
func (r *reloader) Reload() error {
	_, err := r.reload()
	return err
}

// Prepare is Reload in two steps, for who has more to read that may be wrong: it reads the files, and swap swaps the
// configurations. Nothing has changed before, and nothing has to be done for it to stay so.
func (r *reloader) Prepare() (swap func(), err error) {
	next, err := r.read()
	if err != nil {
		return nil, err
	}
	return func() { r.swap(next) }, nil
}

// Expiry returns when the first of the certificates that we show ends, the zero time if there is none.
func (r *reloader) Expiry() time.Time {
	var first time.Time
	for _, c := range r.current.Load().shown {
		if first.IsZero() || c.cert.NotAfter.Before(first) {
			first = c.cert.NotAfter
		}
	}
	return first
}

// Warnings returns what will, or soon will, keep the other side from trusting us, or us from trusting it: a *ValidityError
// for each certificate that is not valid at now, an *ExpiryError for each that soon will not be, and what is wrong besides.
// Of a file of authorities the one that is valid for longest counts.
func (r *reloader) Warnings(now time.Time) []error {
	m := r.current.Load()
	var warnings []error
	for _, c := range slices.Concat(m.shown, m.trusted) {
		switch left := c.cert.NotAfter.Sub(now); {
		case !c.valid(now):
			warnings = append(warnings, &ValidityError{File: c.file, NotBefore: c.cert.NotBefore, NotAfter: c.cert.NotAfter})
		case left < ahead(c.cert.NotAfter.Sub(c.cert.NotBefore)):
			warnings = append(warnings, &ExpiryError{File: c.file, NotAfter: c.cert.NotAfter})
		}
	}
	return append(warnings, m.doubts...)
}

// Outdated returns a *ValidityError for each authority that is not valid at now beside others in its file, which Warnings
// passes over: while authorities change that is as it should be, afterwards it is a leftover.
func (r *reloader) Outdated(now time.Time) []error {
	var outdated []error
	for _, c := range r.current.Load().others {
		if !c.valid(now) {
			outdated = append(outdated, &ValidityError{File: c.file, Subject: c.cert.Subject.String(), NotBefore: c.cert.NotBefore, NotAfter: c.cert.NotAfter})
		}
	}
	return outdated
}

func (o origin) valid(now time.Time) bool {
	return !now.Before(o.cert.NotBefore) && !now.After(o.cert.NotAfter)
}

// maxAhead is how long before its end a certificate is warned of, at most.
const maxAhead = 30 * 24 * time.Hour

// ahead returns how long before its end a certificate of that lifetime is warned of: later than whatever renews it should
// have done so.
func ahead(lifetime time.Duration) time.Duration { return min(lifetime/6, maxAhead) }

// ValidityError says that a certificate is not valid yet or not valid any more.
type ValidityError struct {
	File      string
	Subject   string // which of the file's; empty: the only one that matters
	NotBefore time.Time
	NotAfter  time.Time
}

// Error names the file and the time in which its certificate is valid.
func (e *ValidityError) Error() string {
	which := e.File
	if e.Subject != "" {
		which = fmt.Sprintf("%q in %s", e.Subject, e.File)
	}
	return fmt.Sprintf("certificate %s is valid only from %s to %s", which,
		e.NotBefore.UTC().Format(time.RFC3339), e.NotAfter.UTC().Format(time.RFC3339))
}

// ExpiryError says that a certificate ends soon.
type ExpiryError struct {
	File     string
	NotAfter time.Time
}

// Error names the file and the end.
func (e *ExpiryError) Error() string {
	return fmt.Sprintf("certificate %s ends soon, at %s", e.File, e.NotAfter.UTC().Format(time.RFC3339))
}

// reload is Reload; it also reports whether the configurations were replaced.
func (r *reloader) reload() (changed bool, err error) {
	next, err := r.read()
	if err != nil {
		return false, err
	}
	return r.swap(next), nil
}

// read loads the files, and notes in which order.
func (r *reloader) read() (*material, error) {
	order := r.reloads.Add(1)
	next, err := r.load()
	if err != nil {
		return nil, err
	}
	next.order = order
	return next, nil
}

// swap makes next what counts, unless it is what counts already, or newer files have been read, and reports whether it did.
func (r *reloader) swap(next *material) (changed bool) {
	for {
		old := r.current.Load()
		switch {
		case old == nil:
		case old.order > next.order: // a load that began later has read newer files
			return false
		case old.digest == next.digest:
			kept := *old
			kept.order = next.order
			if r.current.CompareAndSwap(old, &kept) {
				return false
			}
			continue
		}
		if r.current.CompareAndSwap(old, next) {
			return true
		}
	}
}

func (r *reloader) watched() []string { return r.files }

// Source is something that Watch reloads: a Server or Backends.
type Source interface {
	watched() []string
	reload() (changed bool, err error)
}

// Watch reloads sources when their files change, until ctx is done. Then it returns nil; it returns an error if none of
// the folders can be watched. Without any file it only waits.
//
// onReload is called, by the goroutine that called Watch, after a reload that replaced configurations, with nil; when
// the files are in a state that cannot be loaded, with the error, once per different error; and with nil when they are back
// as they were.
func Watch(ctx context.Context, sources []Source, onReload func(error)) error {
	var files []string
	for _, s := range sources {
		files = append(files, s.watched()...)
	}
	if len(files) == 0 {
		<-ctx.Done()
		return nil
	}
	failure := "" // the last error reported, empty after a success
	return watch.Files(ctx, func() []string { return files }, func(watchErr error) {
		problems, changed := []error{watchErr}, false
		for _, s := range sources {
			replaced, err := s.reload()
			problems, changed = append(problems, err), changed || replaced
		}
		err, now := errors.Join(problems...), ""
		if err != nil {
			now = err.Error()
		}
		if changed || now != failure {
			failure = now
			onReload(err)
		}
	})
}
