package proxy

// Keys of log attributes. Durations are float seconds, sizes bytes.
const (
	logSession     = "session"
	logClientAddr  = "client_addr"
	logListener    = "listener"
	logMode        = "mode"
	logTenant      = "tenant"
	logRole        = "role"
	logDatabase    = "database"
	logTLS         = "tls"
	logApplication = "application_name"
	logBackendPID  = "backend_pid"
	logPool        = "pool"
	logReason      = "reason"
	logPin         = "pin"
	logSQLState    = "sqlstate"
	logError       = "error"
	logDetail      = "detail"
	logAddress     = "address"
	logStack       = "stack"
	logPanic       = "panic"
	logDuration    = "duration_seconds"
	logSessions    = "sessions"
	logSignal      = "signal"
	logVersion     = "version"
)
