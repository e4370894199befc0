package tlsconf

import (
	"context"
	"errors"

	"sluice/internal/watch"
)

// Watch reloads s when the files change, until ctx is done. Then it returns nil; it returns an error if none of
// the folders can be watched. On a disabled Server it only waits.
//
// onReload is called, by the goroutine that called Watch, after a reload that replaced the configurations, with nil; when
// the files are in a state that cannot be loaded, with the error, once per different error; and with nil when they are back
// as they were.
func (s *Server) Watch(ctx context.Context, onReload func(error)) error {
	if !s.Enabled() {
		<-ctx.Done()
		return nil
	}
	failure := "" // the last error reported, empty after a success
	return watch.Files(ctx, s.params.files, func(watchErr error) {
		changed, err := s.reload()
		err = errors.Join(err, watchErr)
		now := ""
		if err != nil {
			now = err.Error()
		}
		if changed || now != failure {
			failure = now
			onReload(err)
		}
	})
}
