package proxy

//go:generate go test -count=1 -run TestErrorDocumentationIsUpToDate -update .

import (
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Reason is why a session was refused or ended: one word in the error, the log, the metric and docs/errors.md.
type Reason int

// The reasons. The table below says what each means to the client, the log and the reader.
const (
	ReasonClientTerminated Reason = iota
	ReasonClientDisconnected
	ReasonBackendTerminated
	ReasonProtocolViolation
	ReasonMessageTooLarge
	ReasonFeatureNotSupported
	ReasonInvalidStartup
	ReasonDeniedAddress
	ReasonBannedAddress
	ReasonTooManyFailedLogins
	ReasonDeniedPolicy
	ReasonTLSRequired
	ReasonAuthFailed
	ReasonIdentityFailed
	ReasonAuthUnavailable
	ReasonLoginTimeout
	ReasonUnknownDatabase
	ReasonTooManyClients
	ReasonTooManyClientsForTenant
	ReasonTooManyClientsForRole
	ReasonTooManyClientsForDatabase
	ReasonTooManyClientsFromAddress
	ReasonConnectionRateFromAddress
	ReasonCrowdedOut
	ReasonPoolWaitTimeout
	ReasonTooManyPinned
	ReasonBackendUnreachable
	ReasonBackendAuthFailed
	ReasonBackendRefused
	ReasonBackendLost
	ReasonCommitUnknown
	ReasonCarryFailed
	ReasonListenerLost
	ReasonQueryTimeout
	ReasonQueryCancelled
	ReasonClientLifetime
	ReasonIdleSessionTimeout
	ReasonIdleInTransactionTimeout
	ReasonPolicyRevoked
	ReasonShutdown
	ReasonDraining
	ReasonInternalError
	numReasons
)

// reasonRow is what a reason means. An empty severity means that the client is sent nothing.
type reasonRow struct {
	label    string // log, metric, docs
	severity string
	sqlstate string
	level    slog.Level
	message  string // to the client, where the place that refuses has nothing more exact to say
	hint     string
	when     string // docs
}

// reasons has one row for each Reason.
var reasons = [numReasons]reasonRow{
	ReasonClientTerminated:          {"client_terminated", "", "", slog.LevelDebug, "", "", "the client said goodbye"},
	ReasonClientDisconnected:        {"client_disconnected", "", "", slog.LevelDebug, "", "", "the client's connection ended without a goodbye"},
	ReasonBackendTerminated:         {"backend_terminated", "", "", slog.LevelInfo, "", "", "Postgres ended the session; the client was sent what Postgres said"},
	ReasonProtocolViolation:         {"protocol_violation", "FATAL", "08P01", slog.LevelWarn, "protocol violation", "", "malformed framing, or a message out of place"},
	ReasonMessageTooLarge:           {"message_too_large", "FATAL", "54000", slog.LevelWarn, "message too large", "", "a message that must be held, such as a password, is over its limit"},
	ReasonFeatureNotSupported:       {"feature_not_supported", "FATAL", "0A000", slog.LevelInfo, "not supported by Sluice", "Connect directly to PostgreSQL for this.", "replication, or a protocol version before 3.0"},
	ReasonInvalidStartup:            {"invalid_startup", "FATAL", "28000", slog.LevelInfo, "no PostgreSQL user name specified in startup packet", "", "the start-up packet names no user, or its options two tenants"},
	ReasonDeniedAddress:             {"denied_address", "FATAL", "28000", slog.LevelInfo, "", "Ask the operator to add this address to the allowed networks.", "no rule admits the address; the message names the address as it was seen, and the port"},
	ReasonBannedAddress:             {"banned_address", "FATAL", "28000", slog.LevelInfo, "", "", "too many failed logins from the address; the hint has the ban's end; nothing is sent in a flood"},
	ReasonTooManyFailedLogins:       {"too_many_failed_logins", "FATAL", "53300", slog.LevelInfo, "", "Check the password, and try again in a moment.", "failed logins delay the next ones from the address, and this one for longer than limits.login_timeout; nothing is sent in a flood"},
	ReasonDeniedPolicy:              {"denied_policy", "FATAL", "28000", slog.LevelInfo, "", "", "the role may not log in here: not listed, or not in this mode"},
	ReasonTLSRequired:               {"tls_required", "FATAL", "28000", slog.LevelInfo, "connection requires TLS", "Connect with sslmode=require.", "the tenant, role or database takes clients with TLS only (tls_enforcement, require_tls), or the login would send a password in clear"},
	ReasonAuthFailed:                {"auth_failed", "FATAL", "28P01", slog.LevelWarn, "", "", "wrong password or unknown role, which look the same"},
	ReasonIdentityFailed:            {"identity_failed", "FATAL", "28000", slog.LevelWarn, "", "", "the client's certificate or its user of the operating system is not the role's or is missing, or the client is bound to another TLS channel"},
	ReasonAuthUnavailable:           {"auth_unavailable", "FATAL", "57P03", slog.LevelError, "the database system is not available for authentication", "Try again in a moment.", "auth.query could not be asked, or the keys of auth.jwt are not known"},
	ReasonLoginTimeout:              {"login_timeout", "FATAL", "57014", slog.LevelInfo, "canceling authentication due to timeout", "", "the login took longer than limits.login_timeout"},
	ReasonUnknownDatabase:           {"unknown_database", "FATAL", "3D000", slog.LevelInfo, "", "", "the database is not listed and others are not admitted; said after authentication only"},
	ReasonTooManyClients:            {"too_many_clients", "FATAL", "53300", slog.LevelWarn, "", "Close idle connections, or ask the operator to raise limits.max_clients.", "limits.max_clients is reached"},
	ReasonTooManyClientsForTenant:   {"too_many_clients_for_tenant", "FATAL", "53300", slog.LevelWarn, "", "Close idle connections, or ask the operator to raise max_clients.", "the tenant's max_clients is reached in this mode"},
	ReasonTooManyClientsForRole:     {"too_many_clients_for_role", "FATAL", "53300", slog.LevelWarn, "", "Close idle connections of this role, or ask the operator to raise its max_clients.", "the role's max_clients is reached in this mode"},
	ReasonTooManyClientsForDatabase: {"too_many_clients_for_database", "FATAL", "53300", slog.LevelWarn, "", "Close idle connections to this database, or ask the operator to raise its max_clients.", "the database's max_clients is reached in this mode"},
	ReasonTooManyClientsFromAddress: {"too_many_clients_from_address", "FATAL", "53300", slog.LevelWarn, "", "Close idle connections from this address, or ask the operator to raise limits.max_clients_per_address.", "limits.max_clients_per_address is reached"},
	ReasonConnectionRateFromAddress: {"connection_rate_from_address", "FATAL", "53300", slog.LevelInfo, "", "Keep connections open instead of opening new ones, or ask the operator to raise limits.max_connection_rate_per_address.", "connections come faster from the address than limits.max_connection_rate_per_address; nothing is sent in a flood"},
	ReasonCrowdedOut:                {"crowded_out", "", "", slog.LevelDebug, "", "", "the process had no room left, and the login that was not over was one of many from its address"},
	ReasonPoolWaitTimeout:           {"pool_wait_timeout", "FATAL", "53300", slog.LevelWarn, "", "Keep transactions short, or ask the operator to raise pool_size.", "no backend was free within pool_wait_timeout"},
	ReasonTooManyPinned:             {"too_many_pinned", "FATAL", "53300", slog.LevelWarn, "", "Use the session port for clients that keep state in their session.", "more sessions than max_pinned hold something that keeps them on their backend"},
	ReasonBackendUnreachable:        {"backend_unreachable", "FATAL", "57P03", slog.LevelError, "the database system is not reachable", "Try again in a moment.", "connecting to Postgres, or logging in, failed for connect_timeout"},
	ReasonBackendAuthFailed:         {"backend_auth_failed", "FATAL", "08004", slog.LevelError, "Sluice could not log in to PostgreSQL for this role", "The password that Sluice knows for this role differs from PostgreSQL's: ask the operator.", "Postgres rejected Sluice's login"},
	ReasonBackendRefused:            {"backend_refused", "FATAL", "", slog.LevelInfo, "", "", "Postgres refused the session, for its database or its start-up parameters; the client is sent what Postgres said"},
	ReasonBackendLost:               {"backend_lost", "FATAL", "08006", slog.LevelError, "connection to PostgreSQL was lost; the open transaction was not committed", "Run the transaction again.", "the backend's connection ended while idle, or inside a transaction block no commit of which had been sent"},
	ReasonCommitUnknown:             {"commit_unknown", "FATAL", "08007", slog.LevelError, "connection to PostgreSQL was lost; whether the transaction was committed is unknown", "Check whether the statement took effect before running it again.", "the backend's connection ended while something that could commit was under way"},
	ReasonCarryFailed:               {"carry_failed", "FATAL", "08006", slog.LevelError, "the session's state could not be put on a backend", "Connect again.", "an injected statement failed; nothing of the client's was run"},
	ReasonListenerLost:              {"listener_lost", "FATAL", "08006", slog.LevelInfo, "notifications may have been missed", "Connect again, LISTEN again, and look at what may have changed meanwhile.", "the connection that listens for all clients of a database was lost or replaced, or more notifications came than the client could take"},
	ReasonQueryTimeout:              {"query_timeout", "", "57014", slog.LevelInfo, "", "", "a statement took longer than timeouts.query and was cancelled; the session lives on"},
	ReasonQueryCancelled:            {"query_cancelled", "ERROR", "57014", slog.LevelDebug, "canceling statement due to user request", "", "cancelled by the client before its statement was sent to PostgreSQL; the session lives on"},
	ReasonClientLifetime:            {"client_lifetime", "FATAL", "57P05", slog.LevelInfo, "terminating connection due to its age", "Connect again.", "timeouts.client_lifetime has passed, at a free moment"},
	ReasonIdleSessionTimeout:        {"idle_session_timeout", "FATAL", "57P05", slog.LevelInfo, "terminating connection due to idle-session timeout", "", "timeouts.client_idle has passed between two transactions"},
	ReasonIdleInTransactionTimeout:  {"idle_in_transaction_timeout", "FATAL", "25P03", slog.LevelWarn, "terminating connection due to idle-in-transaction timeout", "", "timeouts.idle_in_transaction has passed inside a transaction, which is rolled back"},
	ReasonPolicyRevoked:             {"policy_revoked", "FATAL", "57P01", slog.LevelInfo, "terminating connection due to a change of the access policy", "", "a reload denies what it had admitted; at a free moment"},
	ReasonShutdown:                  {"shutdown", "FATAL", "57P01", slog.LevelInfo, "terminating connection due to administrator command", "", "Sluice is shutting down; at a free moment"},
	ReasonDraining:                  {"draining", "FATAL", "57P03", slog.LevelInfo, "the database system is shutting down", "Connect again.", "a connection that came during a shutdown"},
	ReasonInternalError:             {"internal_error", "FATAL", "XX000", slog.LevelError, "internal error of Sluice", "Please report this with the log of this time.", "a bug"},
}

// String returns the reason's word.
func (r Reason) String() string { return reasons[r].label }

// noticePlain is what a client without TLS is told at login that will be refused once tls_enforcement is enforce.
func noticePlain() *pgproto3.NoticeResponse {
	return &pgproto3.NoticeResponse{
		Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "01P01", // deprecated_feature
		Message: "this connection is not encrypted: connections without TLS will be refused",
		Hint:    "Connect with sslmode=require, or better with sslmode=verify-full and the authority's certificate, which the operator has.",
	}
}

// endError is a session's end, or an attempt's, on its way to the one place that logs, counts and sends it. Empty fields
// mean what the table says.
type endError struct {
	reason  Reason
	message string
	detail  string
	hint    string
	raw     []byte // an ErrorResponse of Postgres that is sent as it is
	err     error  // for the log only
}

func (e *endError) Error() string {
	msg := e.message
	if msg == "" {
		msg = reasons[e.reason].message
	}
	if e.err != nil {
		return fmt.Sprintf("%s: %s: %v", e.reason, msg, e.err)
	}
	return fmt.Sprintf("%s: %s", e.reason, msg)
}

// Unwrap returns the cause.
func (e *endError) Unwrap() error { return e.err }

// response returns the ErrorResponse for the client, nil if it is sent none.
func (e *endError) response() []byte {
	if e.raw != nil {
		return e.raw
	}
	row := reasons[e.reason]
	if row.severity == "" {
		return nil
	}
	r := pgproto3.ErrorResponse{
		Severity: row.severity, SeverityUnlocalized: row.severity, Code: row.sqlstate,
		Message: row.message, Detail: e.detail, Hint: row.hint,
	}
	if e.message != "" {
		r.Message = e.message
	}
	if e.hint != "" {
		r.Hint = e.hint
	}
	out, err := r.Encode(nil)
	if err != nil { // only for messages over 1 GiB
		return nil
	}
	return out
}
