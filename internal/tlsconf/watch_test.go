package tlsconf

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds the waits for the operating system; a test that passes waits for far less.
const patience = 20 * time.Second

// watching starts Watch and returns what it reports. The test waits for its end.
func watching(t *testing.T, s *Server) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reports, ended := make(chan error), make(chan error, 1)
	go func() {
		ended <- Watch(ctx, []Source{s}, func(err error) {
			select {
			case reports <- err:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	return reports
}

// wantServed waits until s serves a certificate for name; reports of failures on the way are skipped.
func wantServed(t *testing.T, s *Server, reports <-chan error, name string) {
	t.Helper()
	timeout := time.After(patience)
	var last error
	for {
		select {
		case last = <-reports:
			if last == nil && servedName(t, s) == name {
				return
			}
		case <-timeout:
			t.Fatalf("no reload to %q; serving %q, last report %v", name, servedName(t, s), last)
		}
	}
}

// watched is a server whose files lie in a folder of their own, and two certificates to change to.
func watched(t *testing.T) (s *Server, folder string, one, two issued) {
	t.Helper()
	ca := newAuthority(t, "ca", nil, time.Hour)
	folder = filepath.Join(t.TempDir(), "certs")
	mustDo(t, os.Mkdir(folder, 0o700))
	one, two = ca.issue(t, "one", nil), ca.issue(t, "two", nil)
	first := save(t, folder, one.certPEM, one.keyPEM)
	return mustServer(t, ServerParams{CertFile: first.CertFile, KeyFile: first.KeyFile}), folder, one, two
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchSeesFilesWrittenInPlace(t *testing.T) {
	t.Parallel()
	s, folder, one, two := watched(t)
	reports := watching(t, s)
	save(t, folder, two.certPEM, two.keyPEM)
	wantServed(t, s, reports, "two")
	save(t, folder, one.certPEM, one.keyPEM)
	wantServed(t, s, reports, "one")
}

func TestWatchSeesRenamesOverTheFiles(t *testing.T) {
	t.Parallel()
	s, folder, one, two := watched(t)
	reports := watching(t, s)
	for _, next := range []issued{two, one} {
		for name, data := range map[string][]byte{"tls.crt": next.certPEM, "tls.key": next.keyPEM} {
			temporary := writeFile(t, filepath.Join(folder, name+".new"), data)
			mustDo(t, os.Rename(temporary, filepath.Join(folder, name)))
		}
		wantServed(t, s, reports, next.certificate(t).Leaf.Subject.CommonName)
	}
}

// swapLink makes link point to target as Kubernetes does: by a rename of a new link.
func swapLink(t *testing.T, target, link string) {
	t.Helper()
	mustDo(t, os.Symlink(target, link+"_tmp"))
	mustDo(t, os.Rename(link+"_tmp", link))
}

func TestWatchSeesKubernetesSecretsChange(t *testing.T) {
	t.Parallel()
	_, _, one, two := watched(t)
	mount := t.TempDir()
	revision := func(name string, cert issued) {
		mustDo(t, os.Mkdir(filepath.Join(mount, name), 0o700))
		save(t, filepath.Join(mount, name), cert.certPEM, cert.keyPEM)
	}
	revision("..2031_1", one)
	swapLink(t, "..2031_1", filepath.Join(mount, "..data"))
	for _, name := range []string{"tls.crt", "tls.key"} {
		mustDo(t, os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)))
	}
	s := mustServer(t, ServerParams{CertFile: filepath.Join(mount, "tls.crt"), KeyFile: filepath.Join(mount, "tls.key")})
	reports := watching(t, s)
	revision("..2031_2", two)
	swapLink(t, "..2031_2", filepath.Join(mount, "..data"))
	mustDo(t, os.RemoveAll(filepath.Join(mount, "..2031_1")))
	wantServed(t, s, reports, "two")
	revision("..2031_3", one)
	swapLink(t, "..2031_3", filepath.Join(mount, "..data"))
	mustDo(t, os.RemoveAll(filepath.Join(mount, "..2031_2")))
	wantServed(t, s, reports, "one")
}

func TestWatchFollowsLinkedFolders(t *testing.T) {
	t.Parallel()
	_, _, one, two := watched(t)
	first, second := filepath.Dir(one.CertFile), filepath.Dir(two.CertFile)
	link := filepath.Join(t.TempDir(), "live")
	swapLink(t, first, link)
	s := mustServer(t, ServerParams{CertFile: filepath.Join(link, "tls.crt"), KeyFile: filepath.Join(link, "tls.key")})
	reports := watching(t, s)
	swapLink(t, second, link)
	wantServed(t, s, reports, "two")
	save(t, second, one.certPEM, one.keyPEM) // the folder it leads to now is watched as well
	wantServed(t, s, reports, "one")
}

func TestWatchFollowsAFolderThatIsReplaced(t *testing.T) {
	t.Parallel()
	s, folder, one, two := watched(t)
	reports := watching(t, s)
	mustDo(t, os.Rename(folder, folder+".old"))
	mustDo(t, os.Mkdir(folder, 0o700))
	save(t, folder, two.certPEM, two.keyPEM)
	wantServed(t, s, reports, "two")
	mustDo(t, os.RemoveAll(folder))
	if err := wantReport(t, reports); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("folder removed: got %v, want an error that names %s", err, folder)
	}
	mustDo(t, os.Mkdir(folder, 0o700))
	save(t, folder, one.certPEM, one.keyPEM)
	wantServed(t, s, reports, "one")
}

func wantReport(t *testing.T, reports <-chan error) error {
	t.Helper()
	select {
	case err := <-reports:
		return err
	case <-time.After(patience):
		t.Fatal("no report")
		return nil
	}
}

func TestWatchReportsBadFilesAndTheirRepair(t *testing.T) {
	t.Parallel()
	s, folder, one, _ := watched(t)
	before := s.Config()
	reports := watching(t, s)
	key := filepath.Join(folder, "tls.key")
	writeFile(t, key, []byte("broken"))
	if err := wantReport(t, reports); err == nil || !strings.Contains(err.Error(), key) {
		t.Fatalf("got %v, want an error that names %s", err, key)
	}
	writeFile(t, key, one.keyPEM)
	if err := wantReport(t, reports); err != nil {
		t.Fatalf("after the repair: %v", err)
	}
	if s.Config() != before {
		t.Error("the configuration was replaced although the files are as they were")
	}
}

func TestWatchSeesWhatChangedBeforeItBegan(t *testing.T) {
	t.Parallel()
	s, folder, _, two := watched(t)
	save(t, folder, two.certPEM, two.keyPEM)
	wantServed(t, s, watching(t, s), "two")
}

func TestWatchEndsIfNothingCanBeWatched(t *testing.T) {
	t.Parallel()
	s, folder, _, _ := watched(t)
	mustDo(t, os.RemoveAll(filepath.Dir(folder)))
	var reported error
	if err := Watch(t.Context(), []Source{s}, func(err error) { reported = err }); err == nil {
		t.Error("got nil, want an error")
	}
	if reported == nil || !strings.Contains(reported.Error(), folder) {
		t.Errorf("reported %v, want an error that names %s", reported, folder)
	}
}

func TestWatchWaitsForAFolderThatIsAwayWhenItBegins(t *testing.T) {
	t.Parallel()
	s, folder, _, two := watched(t)
	mustDo(t, os.RemoveAll(folder))
	reports := watching(t, s)
	if err := wantReport(t, reports); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("got %v, want an error that names %s", err, folder)
	}
	mustDo(t, os.Mkdir(folder, 0o700))
	save(t, folder, two.certPEM, two.keyPEM)
	wantServed(t, s, reports, "two")
}

func TestWatchSeesWritesBehindLinkedFiles(t *testing.T) {
	t.Parallel()
	_, _, one, two := watched(t)
	archive, live := filepath.Dir(one.CertFile), t.TempDir()
	for _, name := range []string{"tls.crt", "tls.key"} {
		mustDo(t, os.Symlink(filepath.Join(archive, name), filepath.Join(live, name)))
	}
	s := mustServer(t, ServerParams{CertFile: filepath.Join(live, "tls.crt"), KeyFile: filepath.Join(live, "tls.key")})
	reports := watching(t, s)
	for _, next := range []issued{two, one} {
		save(t, archive, next.certPEM, next.keyPEM)
		wantServed(t, s, reports, next.certificate(t).Leaf.Subject.CommonName)
	}
}

func TestWatchOfADisabledServerWaits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(ctx, []Source{mustServer(t, ServerParams{})}, nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
