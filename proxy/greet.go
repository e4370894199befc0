package proxy

import (
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// greet tells the client that it is logged in. tooLong are names that the client is told about first.
func (a *admission) greet(wc *wire.Conn, s *session, tooLong []string, greeting []wire.Param) error {
	msgs := []wire.Message{&pgproto3.AuthenticationOk{}}
	for _, name := range tooLong {
		msgs = append(msgs, noticeTooLong(name))
	}
	for _, p := range greeting {
		msgs = append(msgs, &pgproto3.ParameterStatus{Name: p.Name, Value: p.Value})
	}
	msgs = append(msgs, &pgproto3.BackendKeyData{ProcessID: s.pid, SecretKey: a.srv.cancels.key(s)})
	if a.plainWarned() {
		msgs = append(msgs, noticePlain())
	}
	msgs = append(msgs, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := wc.Send(msgs...); err != nil {
		return err
	}
	return a.nc.SetDeadline(time.Time{})
}
