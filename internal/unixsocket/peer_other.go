//go:build !linux && !darwin

package unixsocket

import "errors"

// peerUID is not known here.
func peerUID(int) (uint32, error) { return 0, errors.ErrUnsupported }
