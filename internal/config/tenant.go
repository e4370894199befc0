package config

import "time"

// What Tenant.OtherDatabases and Tenant.OtherRoles can be.
const (
	Allow = "allow"
	Deny  = "deny"
)

// What Tenant.StateCheck can be.
const (
	StateCheckStrict = "strict"
	StateCheckLearn  = "learn"
	StateCheckHint   = "hint"
)

// What Tenant.TLSEnforcement can be, and that of roles and databases.
const (
	TLSObserve = "observe"
	TLSWarn    = "warn"
	TLSEnforce = "enforce"
)

// PlanUnnamedOff is what Tenant.PlanUnnamed is for unnamed statements to stay unnamed.
const PlanUnnamedOff = "off"

// Tenant is one Postgres cluster with its policy.
type Tenant struct {
	Name                   string        `key:"name" doc:"letters, digits, _ and -; clients name it as role.tenant" default:"default" reload:"live"`
	Backend                Backend       `key:"backend" doc:"where Postgres is and how it is reached"`
	Databases              []Database    `key:"databases" doc:"databases with an alias or limits of their own" reload:"live"`
	OtherDatabases         string        `key:"other_databases" doc:"whether databases that are not listed can be reached" default:"allow" oneof:"allow deny" reload:"live"`
	Service                Service       `key:"service" doc:"Sluice's own login: for auth.query, max_backends auto, the shared LISTEN and state checks"`
	Auth                   Auth          `key:"auth" doc:"how clients prove who they are"`
	Network                TenantNetwork `key:"network" doc:"who may connect to this tenant"`
	RequireTLS             bool          `key:"require_tls" doc:"refuse clients without TLS: the same as tls_enforcement: enforce" reload:"live"`
	TLSEnforcement         string        `key:"tls_enforcement" doc:"what becomes of clients over TCP without TLS; observe: they are counted, as sluice report tls shows; warn: they are told at login that they will be refused, too; enforce: they are refused; the strictest of what tenant, role and database say counts" shown:"observe, with require_tls enforce" oneof:"observe warn enforce" reload:"live"`
	MaxClients             int           `key:"max_clients" doc:"client connections per mode; 0: only limits.max_clients" unit:"connections" min:"0" max:"10000000" reload:"live"`
	PoolSize               int           `key:"pool_size" doc:"backends per (database, role, mode)" unit:"backends" default:"15" min:"1" max:"1000000" reload:"live"`
	SessionPoolSize        int           `key:"session_pool_size" doc:"the same in session mode; 0: pool_size" unit:"backends" min:"0" max:"1000000" reload:"live"`
	MaxBackends            AutoInt       `key:"max_backends" doc:"backends of the tenant in all, over both modes; auto takes 80 % of what Postgres has left" unit:"backends or auto" default:"auto" min:"1" max:"1000000" reload:"live"`
	PoolWaitTimeout        time.Duration `key:"pool_wait_timeout" doc:"how long a client waits for a backend before 53300" unit:"duration" default:"15s" min:"1ms" reload:"live"`
	Timeouts               Timeouts      `key:"timeouts" doc:"limits on clients; 0s: none"`
	StateCheck             string        `key:"state_check" doc:"transaction mode, how far functions, triggers and views of the database are trusted not to change the session: strict: PostgreSQL is asked after every transaction in which one could have; learn: after a sample of them, and after all with statements that were seen to change something; hint: only after statements whose text says that they do; learn and hint can leak one client's settings to another" default:"strict" oneof:"strict learn hint" reload:"live"`
	MaxPinned              int           `key:"max_pinned" doc:"backends of a pool that sessions may keep past their transactions; 0: pool_size - 1; pool_size: all of them, and the others wait" unit:"backends" min:"0" max:"1000000" reload:"live"`
	PlanUnnamed            string        `key:"plan_unnamed" doc:"auto: an unnamed statement whose text was seen before is served by a named one that Postgres has planned; a change of the schema past Sluice can fail one such statement in a transaction block with 0A000 before it is known; off: never" default:"auto" oneof:"auto off" reload:"live"`
	ApplicationNameAddAddr bool          `key:"application_name_add_address" doc:"what clients do shows in pg_stat_activity with their address behind their application_name, as in 'web - 10.0.0.7:51234', from their login until they set another; clients see it with SHOW" reload:"live"`
	ObserveTransactionMode bool          `key:"observe_transaction_mode" doc:"the session port notes what would pin or cost on the transaction port, by role, application and statement; sluice report transaction-mode shows it" reload:"live"`
	Spread                 AutoInt       `key:"spread" doc:"loops over which a hot pool is split" unit:"number or auto" default:"auto" min:"1" max:"1024" reload:"live"`
	OtherRoles             string        `key:"other_roles" doc:"whether roles that are not listed can log in" default:"allow" oneof:"allow deny" reload:"live"`
	Roles                  []Role        `key:"roles" doc:"roles with limits of their own; the role that logs in counts, SET ROLE does not change it" reload:"live"`

	// URLLogin says that the tenant comes from a database URL: if the service role may read pg_authid it is used for
	// an auth query, otherwise the service role with its password is the only login.
	URLLogin bool `key:"-"`
}

// TLSMode is how far the connection to Postgres is protected, with libpq's words.
type TLSMode string

// The TLS modes.
const (
	TLSDisable    TLSMode = "disable"
	TLSPrefer     TLSMode = "prefer"
	TLSRequire    TLSMode = "require"
	TLSVerifyCA   TLSMode = "verify-ca"
	TLSVerifyFull TLSMode = "verify-full"
)

// What Backend.TLSNegotiation can be: libpq's words for sslnegotiation.
const (
	TLSPostgres = "postgres"
	TLSDirect   = "direct"
)

// Backend is where Postgres is and how it is reached.
type Backend struct {
	// Hosts has at least one element, each with its port.
	Hosts          []HostPort    `key:"host" doc:"host, or a list of host[:port], tried in order; a path is the folder of a Unix socket" default:"127.0.0.1" single:"yes" reload:"live"`
	Port           int           `key:"port" doc:"port of the hosts that do not name one" default:"5433" min:"1" max:"65535" reload:"live"`
	TLSMode        TLSMode       `key:"tls_mode" doc:"as libpq's sslmode" shown:"prefer if every host is loopback or a Unix socket, else verify-full" oneof:"disable prefer require verify-ca verify-full" reload:"live"`
	TLSNegotiation string        `key:"tls_negotiation" doc:"how TLS begins; postgres: by a request; direct: at once, as PostgreSQL 17 and newer take it, with tls_mode require or stronger" default:"postgres" oneof:"postgres direct" reload:"live"`
	CAFile         string        `key:"ca_file" doc:"authorities that sign Postgres's certificate, PEM; empty: those of the system" unit:"file" path:"yes" reload:"live"`
	CertFile       string        `key:"cert_file" doc:"client certificate towards Postgres, PEM" unit:"file" path:"yes" reload:"live"`
	KeyFile        string        `key:"key_file" doc:"its private key, PEM" unit:"file" path:"yes" reload:"live"`
	ServerName     string        `key:"server_name" doc:"the name that Postgres's certificate must have; empty: the host" reload:"live"`
	ConnectTimeout time.Duration `key:"connect_timeout" doc:"for connecting to Postgres and logging in" unit:"duration" default:"5s" min:"1ms" reload:"live"`
	MaxLifetime    time.Duration `key:"max_lifetime" doc:"a backend older than this is replaced when it is free; 0s: never" unit:"duration" default:"1h" min:"0s" reload:"live"`
	IdleTimeout    time.Duration `key:"idle_timeout" doc:"a backend unused for this long is closed; 0s: never" unit:"duration" default:"10m" min:"0s" reload:"live"`
	MinBackends    int           `key:"min_backends" doc:"backends kept warm per pool, from its first client on and with the start-up parameters of its last" unit:"backends" min:"0" max:"1000000" reload:"live"`
	Settings       []Setting     `key:"settings" doc:"settings that every backend starts with" unit:"name=value" reload:"live"`
}

// Database is a database that clients can name.
type Database struct {
	Name       string  `key:"name" doc:"what clients call it" required:"yes" reload:"live"`
	DBName     string  `key:"dbname" doc:"its name in Postgres, for which network and tls_enforcement count too unless it is listed by itself" shown:"the same as name" reload:"live"`
	PoolSize   int     `key:"pool_size" doc:"backends per (role, mode); 0: the tenant's" unit:"backends" min:"0" max:"1000000" reload:"live"`
	MaxClients int     `key:"max_clients" doc:"client connections per mode; 0: only the tenant's limit" unit:"connections" min:"0" max:"10000000" reload:"live"`
	Network    Network `key:"network" doc:"narrows the tenant's"`

	TLSEnforcement string `key:"tls_enforcement" doc:"as the tenant's, which it can only make stricter" shown:"the tenant's" oneof:"observe warn enforce" reload:"live"`
}

// Service is Sluice's own login. An empty Role means that there is none.
type Service struct {
	Role     string `key:"role" doc:"empty: what needs a login of Sluice's own is off" reload:"live"`
	Password Secret `key:"password" doc:"its password" reload:"live"`
	Database string `key:"database" doc:"the database it logs in to" default:"postgres" reload:"live"`
}

// What Auth.ClientCert can be.
const (
	ClientCertVerifyCA   = "verify-ca"
	ClientCertVerifyFull = "verify-full"
)

// CertNameCN is the name of a certificate that counts by default.
const CertNameCN = "cn"

// AuthMethod is how clients prove who they are.
type AuthMethod string

// The methods.
const (
	AuthAuto     AuthMethod = "auto"
	AuthTrust    AuthMethod = "trust"
	AuthPassword AuthMethod = "password"
	AuthMD5      AuthMethod = "md5"
	AuthSCRAM    AuthMethod = "scram-sha-256"
	AuthCert     AuthMethod = "cert"
	AuthJWT      AuthMethod = "jwt"
	AuthPeer     AuthMethod = "peer"
)

// Auth is how clients prove who they are, and where their secrets come from.
type Auth struct {
	Method AuthMethod `key:"method" doc:"auto: by the stored secret, never weaker" default:"auto" oneof:"auto trust password md5 scram-sha-256 cert jwt peer" reload:"live"`
	// UsersFile is empty if there is none: also if the file does not name it, the default does not exist and
	// nothing needs it.
	UsersFile  string        `key:"users_file" doc:"lines of a role and its password or verifier, both in double quotes; the format of PgBouncer's userlist.txt; behind the secret there can be until and a time, and a role has two lines while its password changes, one of them with an end; may be missing at its default if query is set or method is trust, cert, jwt or peer" unit:"file" default:"users.txt" path:"yes" reload:"live"`
	Query      string        `key:"query" doc:"SELECT role, verifier[, valid_until] FROM … WHERE role = $1; runs as the service role, in its database; two rows are good at a time, while a password changes" unit:"SQL" reload:"live"`
	QueryCache time.Duration `key:"query_cache" doc:"how long its answer is used; no longer where a client changes a role through Sluice" unit:"duration" default:"30s" min:"0s" reload:"live"`
	ClientCert string        `key:"client_cert" doc:"the certificate that a client must show beside what method asks for, as clientcert in pg_hba.conf; verify-ca: anybody's; verify-full: one for its role; with tls.client_cert; Unix sockets have none" default:"none" oneof:"none verify-ca verify-full" reload:"live"`
	CertNames  []string      `key:"cert_names" doc:"the names in a certificate that say whose it is: its common name, or its alternative names, each of them; for method cert and client_cert verify-full" default:"[cn]" oneof:"cn dns email uri" reload:"live"`
	Map        string        `key:"map" doc:"one of ident_maps, which says as which roles the names in a certificate, or with method peer the user, may log in; empty: as the role of that name" reload:"live"`
	JWT        JWT           `key:"jwt" doc:"which tokens are taken in place of a password, with method jwt"`
}

// JWT says which tokens let their bearers log in.
type JWT struct {
	JWKSFile   string        `key:"jwks_file" doc:"the issuer's keys, a JWK set; either this or jwks_url" unit:"file" path:"yes" reload:"live"`
	JWKSURL    string        `key:"jwks_url" doc:"where the issuer's keys are, https (http on this machine only); asked again every five minutes, and for a key that is not known; they count for a day if it cannot be asked" unit:"URL" reload:"live"`
	Issuer     string        `key:"issuer" doc:"what claim iss must be" reload:"live"`
	Audience   []string      `key:"audience" doc:"what claim aud must hold one of" single:"yes" reload:"live"`
	RoleClaim  string        `key:"role_claim" doc:"the claim that has the role, or a list of roles; with a slash in front the way to it, as in /realm_access/roles" default:"role" reload:"live"`
	Roles      []string      `key:"roles" doc:"the roles that may log in by token; a token must hold the role too" reload:"live"`
	Algorithms []string      `key:"algorithms" doc:"signatures that count" default:"[RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA]" oneof:"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA" reload:"live"`
	Leeway     time.Duration `key:"leeway" doc:"by how much the issuer's clock and Sluice's may differ" unit:"duration" default:"30s" min:"0s" max:"5m" reload:"live"`
}

// Timeouts are limits on clients. Zero means no limit.
type Timeouts struct {
	ClientIdle        time.Duration `key:"client_idle" doc:"between two transactions" unit:"duration" default:"0s" min:"0s" reload:"live"`
	IdleInTransaction time.Duration `key:"idle_in_transaction" doc:"between two statements of a transaction" unit:"duration" default:"0s" min:"0s" reload:"live"`
	Query             time.Duration `key:"query" doc:"of a statement" unit:"duration" default:"0s" min:"0s" reload:"live"`
	ClientLifetime    time.Duration `key:"client_lifetime" doc:"of a client connection, ended at a free moment" unit:"duration" default:"0s" min:"0s" reload:"live"`
}

// Role is a role with limits of its own.
type Role struct {
	Name       string      `key:"name" doc:"the role that logs in" required:"yes" reload:"live"`
	PoolSize   int         `key:"pool_size" doc:"backends per (database, mode); 0: the tenant's" unit:"backends" min:"0" max:"1000000" reload:"live"`
	MaxClients int         `key:"max_clients" doc:"client connections per mode; 0: only the tenant's limit" unit:"connections" min:"0" max:"10000000" reload:"live"`
	Modes      []Mode      `key:"modes" doc:"modes it may use; empty: both" oneof:"session transaction" reload:"live"`
	Network    Network     `key:"network" doc:"narrows the tenant's"`
	Backend    RoleBackend `key:"backend" doc:"how Sluice logs in to Postgres for this role; needed where the client's login gives no secret"`

	TLSEnforcement string `key:"tls_enforcement" doc:"as the tenant's, which it can only make stricter" shown:"the tenant's" oneof:"observe warn enforce" reload:"live"`
}

// RoleBackend is the login to Postgres on behalf of a role. An empty User means the role itself.
type RoleBackend struct {
	User     string `key:"user" doc:"log in as; empty: the role" reload:"live"`
	Password Secret `key:"password" doc:"empty: what the client's login gives" reload:"live"`
}
