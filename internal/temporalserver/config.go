package temporalserver

import (
	"net"
	"strconv"
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"

	"github.com/longhaul-mcp/longhaul/internal/enginereg"
)

// ClusterName is the name of the one cluster, for the namespaces in its database.
const ClusterName = "active"

// The names of the stores in the configuration.
const (
	mainStore       = "main"
	visibilityStore = "visibility"
)

const (
	// unlimited stands for "no rate limit": far above what the machine can do, and small enough
	// for Temporal to multiply by its burst ratios.
	unlimited = 1_000_000

	// cachedWorkflows bounds the workflows that are kept in memory, some 45 KB each.
	cachedWorkflows = 20_000

	// maxPollRPS is how often a second a queue processor may look for work.
	maxPollRPS = 2000

	// longPoll is how long a request for what comes next is held. Those who make them
	// give up after a minute.
	longPoll = 50 * time.Second

	// queueWorkers is how many tasks of one queue are processed at the same time.
	queueWorkers = 16
)

// dynamicConfig is where this server differs from Temporal's defaults. Package devserver says why.
func dynamicConfig() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		dynamicconfig.TransferProcessorMaxPollRPS.Key():   maxPollRPS,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():      maxPollRPS,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): maxPollRPS,

		dynamicconfig.TransferProcessorSchedulerWorkerCount.Key():   queueWorkers,
		dynamicconfig.TimerProcessorSchedulerWorkerCount.Key():      queueWorkers,
		dynamicconfig.VisibilityProcessorSchedulerWorkerCount.Key(): queueWorkers,

		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,

		dynamicconfig.FrontendRPS.Key():                                  unlimited,
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():           unlimited,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): unlimited,
		dynamicconfig.FrontendPersistenceMaxQPS.Key():                    unlimited,
		dynamicconfig.HistoryRPS.Key():                                   unlimited,
		dynamicconfig.HistoryPersistenceMaxQPS.Key():                     unlimited,
		dynamicconfig.MatchingRPS.Key():                                  unlimited,
		dynamicconfig.MatchingPersistenceMaxQPS.Key():                    unlimited,

		dynamicconfig.FrontendMaxConcurrentLongRunningRequestsPerInstance.Key(): unlimited,

		dynamicconfig.HistoryLongPollExpirationInterval.Key(): longPoll,

		dynamicconfig.TransferProcessorUpdateAckInterval.Key(): time.Second,

		dynamicconfig.HistoryCacheHostLevelMaxSize.Key(): cachedWorkflows,

		dynamicconfig.WorkerHeartbeatsEnabled.Key():           true,
		dynamicconfig.WorkerCommandsEnabled.Key():             true,
		dynamicconfig.EnableCancelActivityWorkerCommand.Key(): true,

		dynamicconfig.EnableServerVersionCheck.Key(): false,

		// The unified converter compares close_time, which is in no index. The other one
		// compares what is in all of them instead, and so a page of ended workflows is
		// found without going through those before it (engine.List).
		dynamicconfig.VisibilityEnableUnifiedQueryConverter.Key(): false,
	}
}

// Ports are addresses kept for Temporal's services until it starts. Temporal insists on opening its
// listeners itself, so they are handed over by closing these. In the moment between, any other process
// may take one, be it as the near end of a connection.
type Ports struct {
	frontend  string                            // as it was asked for
	hosts     map[primitives.ServiceName]string // host:port
	listeners []net.Listener
}

// ReservePorts takes the frontend's address, a host:port whose port may be 0, and free loopback
// ports for the services behind it. The error is an [*enginereg.AddrError].
func ReservePorts(frontend string) (*Ports, error) {
	p := &Ports{frontend: frontend}
	if err := p.reserve(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Ports) reserve() error {
	p.hosts = make(map[primitives.ServiceName]string)
	for name, addr := range map[primitives.ServiceName]string{
		primitives.FrontendService: p.frontend,
		primitives.HistoryService:  "127.0.0.1:0",
		primitives.MatchingService: "127.0.0.1:0",
		primitives.WorkerService:   "127.0.0.1:0",
	} {
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			p.Release()
			return &enginereg.AddrError{Listener: enginereg.ListenerTemporal, Addr: addr, Err: err}
		}
		p.listeners = append(p.listeners, lis)
		p.hosts[name] = lis.Addr().String()
	}
	return nil
}

// Frontend is the real host:port of the gRPC frontend.
func (p *Ports) Frontend() string { return p.hosts[primitives.FrontendService] }

// Release frees the ports. It may be called more than once.
func (p *Ports) Release() {
	for _, lis := range p.listeners {
		lis.Close()
	}
	p.listeners = nil
}

func newTemporal(hosts map[primitives.ServiceName]string, o Options, log *serverLog) (temporal.Server, error) {
	frontend := hosts[primitives.FrontendService]
	services := make(map[string]config.Service, len(hosts))
	members := make(map[primitives.ServiceName]static.Hosts, len(hosts))
	for name, addr := range hosts {
		service, err := serviceConfig(addr)
		if err != nil {
			return nil, err
		}
		services[string(name)] = service
		members[name] = static.SingleLocalHost(addr)
	}
	cfg := &config.Config{
		Services: services,
		Persistence: config.Persistence{
			DefaultStore:     mainStore,
			VisibilityStore:  visibilityStore,
			NumHistoryShards: o.Shards,
			DataStores: map[string]config.DataStore{
				mainStore:       {SQL: o.Store},
				visibilityStore: {SQL: o.Visibility},
			},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        ClusterName,
			CurrentClusterName:       ClusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				ClusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		PublicClient:        config.PublicClient{HostPort: frontend},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
	}
	return temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(members),
		temporal.WithLogger(log),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper {
			return authorization.NewNoopClaimMapper()
		}),
		temporal.WithDynamicConfigClient(dynamicConfig()),
	)
}

func serviceConfig(addr string) (config.Service, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return config.Service{}, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return config.Service{}, err
	}
	return config.Service{RPC: config.RPC{BindOnIP: host, GRPCPort: n}}, nil
}
