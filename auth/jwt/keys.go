package jwt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// How an issuer is asked for its keys.
const (
	refreshEvery  = 5 * time.Minute  // so long a key that the issuer has taken back may still count
	retryFirst    = 5 * time.Second  // after a failure; then twice as long each time, up to refreshEvery
	askGap        = 10 * time.Second // at least, between two questions, however many unknown keys tokens name
	keepKeys      = 24 * time.Hour   // so long keys count that could not be fetched again
	fetchTimeout  = 10 * time.Second
	maxSetBytes   = 256 << 10 // 256 KiB: 64 keys with certificates
	maxRedirects  = 3
	maxHeaderSize = 64 << 10 // 64 KiB, of the answer
)

// DialFunc opens a connection, as (*net.Dialer).DialContext does.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Keys are an issuer's. They are safe for concurrent use.
type Keys struct {
	url    string // empty: they come from a file, and stay as they are
	place  string // url as others may see it
	client *http.Client

	wake chan struct{} // has a token when somebody wants Run to fetch at once

	mu      sync.Mutex // guards below
	set     []key
	fetched time.Time // when set was
	asked   time.Time // when the last fetch began
	failed  int       // fetches since the last that succeeded
	asking  bool
	stopped bool          // nothing is fetched any more
	done    chan struct{} // closed when the fetch under way, or the next, is over
}

// ReadKeys reads a file with a JWK set. Errors: what reading the file said, or ErrKeySet, wrapped.
func ReadKeys(path string) (*Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := readSet(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	set, err := parseSet(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Keys{set: set}, nil
}

// readSet reads all of r within the bound.
func readSet(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSetBytes+1))
	if err == nil && len(data) > maxSetBytes {
		err = fmt.Errorf("%w: more than %d bytes", ErrKeySet, maxSetBytes)
	}
	return data, err
}

// FetchedKeys returns the keys at a URL, of which none is known before Run has fetched them. Dial opens connections, nil
// being the system's network. What is not https, or http on this machine, is refused: whoever can change what comes from
// there can log in.
func FetchedKeys(address string, dial DialFunc) (*Keys, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("not a URL with a host, and without a password")
	}
	if err := checkScheme(u); err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dial, ForceAttemptHTTP2: true,
		MaxResponseHeaderBytes: maxHeaderSize, DisableKeepAlives: true, // it is asked every few minutes
	}
	return &Keys{
		url: address, place: placeOf(*u), wake: make(chan struct{}, 1), done: make(chan struct{}),
		client: &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: checkRedirect},
	}, nil
}

// placeOf returns an address without what may be a secret in it.
func placeOf(u url.URL) string {
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.String()
}

func checkScheme(u *url.URL) error {
	switch {
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("must be https: http is for this machine only")
	}
	return errors.New("must be https")
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// checkRedirect follows only to where one may begin, and never from elsewhere to this machine. Whoever is redirected to does
// not hear where from: that address may have a secret in it.
func checkRedirect(to *http.Request, via []*http.Request) error {
	to.Header.Del("Referer")
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if isLoopback(to.URL.Hostname()) && !isLoopback(via[0].URL.Hostname()) {
		return errors.New("redirect to this machine")
	}
	if err := checkScheme(to.URL); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	return nil
}

// Fetches reports whether the keys come from a URL, and want Run.
func (k *Keys) Fetches() bool { return k.url != "" }

// Run fetches the keys, and again every so often, and whenever a token names one that is not known, until ctx is done. It
// is to be called once. told is called, by its goroutine, with the error of each fetch that has failed, and with nil after
// the first that succeeds and the first after a failure; usable says whether there are keys that count.
func (k *Keys) Run(ctx context.Context, told func(err error, usable bool)) {
	defer k.stop()
	news := true
	for {
		err := k.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil || news {
			_, missing := k.current()
			told(err, missing == nil)
		}
		news = err != nil
		if !k.rest(ctx) {
			return
		}
	}
}

// rest waits until the keys are to be fetched again; it returns false when ctx is done.
func (k *Keys) rest(ctx context.Context) bool {
	timer := time.NewTimer(k.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-k.wake:
			if k.mayAsk() {
				return true
			}
		}
	}
}

// pause returns how long the next fetch has time.
func (k *Keys) pause() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed == 0 {
		return refreshEvery
	}
	return min(retryFirst<<min(k.failed-1, 16), refreshEvery)
}

func (k *Keys) mayAsk() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Since(k.asked) >= askGap
}

// fetch asks the issuer once. What was known stays if that fails.
func (k *Keys) fetch(ctx context.Context) error {
	k.mu.Lock()
	k.asking, k.asked = true, time.Now()
	k.mu.Unlock()
	set, err := k.download(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.set, k.fetched, k.failed = set, time.Now(), 0
	} else {
		k.failed++
	}
	k.asking = false
	close(k.done)
	k.done = make(chan struct{})
	return err
}

// download asks the issuer. Its errors have nothing of the address but the place, and nothing of a redirect's.
func (k *Keys) download(ctx context.Context) ([]key, error) {
	set, err := k.get(ctx)
	var whole *url.Error // names the address that was asked
	if errors.As(err, &whole) {
		err = whole.Err
	}
	switch {
	case err == nil:
		return set, nil
	case strings.Contains(err.Error(), "Location header"): // and repeats it
		err = errors.New("redirect to what is no URL")
	}
	return nil, fmt.Errorf("fetch keys from %s: %w", k.place, err)
}

func (k *Keys) get(ctx context.Context) ([]key, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%d %s", response.StatusCode, http.StatusText(response.StatusCode))
	}
	data, err := readSet(response.Body)
	if err != nil {
		return nil, err
	}
	return parseSet(data)
}

// stop lets go those who wait for a fetch that will not be.
func (k *Keys) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asking, k.stopped = false, true
	close(k.done)
}

// current returns the keys that count. Errors: ErrNoKeys.
func (k *Keys) current() ([]key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.url != "" && (k.set == nil || time.Since(k.fetched) > keepKeys) {
		return nil, ErrNoKeys
	}
	return k.set, nil
}

// named returns the keys with that name, all for an empty name; the list is the caller's. If there are none the issuer is
// asked again, unless it has just been.
//
// Errors: ErrKey, ErrNoKeys, or ctx's cause.
func (k *Keys) named(ctx context.Context, id string) ([]key, error) {
	keys, err := k.find(id)
	if err == nil {
		return keys, nil
	}
	done := k.ask()
	if done == nil {
		return nil, err
	}
	select {
	case <-done:
		return k.find(id)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ask has Run fetch at once, and returns what is closed when it has; nil if it does not.
func (k *Keys) ask() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.url == "", k.stopped:
		return nil
	case k.asking:
		return k.done
	case time.Since(k.asked) < askGap:
		return nil
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return k.done
}

// find returns the keys with that name that are known.
func (k *Keys) find(id string) ([]key, error) {
	set, err := k.current()
	if err != nil {
		return nil, err
	}
	var found []key
	for _, candidate := range set {
		if id == "" || candidate.id == id {
			found = append(found, candidate)
		}
	}
	if found == nil {
		return nil, ErrKey
	}
	return found, nil
}
