package devserver

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

const (
	clusterName = "active"
	storeName   = "sqlite"

	// unlimited stands for "no rate limit": far above what the machine can do, and small enough
	// for Temporal to multiply by its burst ratios.
	unlimited = 1_000_000

	// maxPollRPS is how often a second a queue processor may look for work.
	maxPollRPS = 2000
)

// dynamicConfig is where this server differs from Temporal's defaults. The package comment says why.
func dynamicConfig() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		dynamicconfig.TransferProcessorMaxPollRPS.Key():   maxPollRPS,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():      maxPollRPS,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): maxPollRPS,

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

		dynamicconfig.TransferProcessorUpdateAckInterval.Key(): time.Second,

		dynamicconfig.WorkerHeartbeatsEnabled.Key():           true,
		dynamicconfig.WorkerCommandsEnabled.Key():             true,
		dynamicconfig.EnableCancelActivityWorkerCommand.Key(): true,

		dynamicconfig.EnableServerVersionCheck.Key(): false,
	}
}

// hosts are the host:port of Temporal's services.
type hosts map[primitives.ServiceName]string

// ports keeps addresses for Temporal's services until it starts. Temporal insists on opening its
// listeners itself, so they are handed over by closing these.
type ports map[primitives.ServiceName]net.Listener

// reservePorts takes the frontend's address and free ports for the services behind it.
func reservePorts(frontend string) (ports, error) {
	lis, err := listen(enginereg.ListenerTemporal, frontend)
	if err != nil {
		return nil, err
	}
	p := ports{primitives.FrontendService: lis}
	for _, name := range []primitives.ServiceName{
		primitives.HistoryService, primitives.MatchingService, primitives.WorkerService,
	} {
		if lis, err = listen(enginereg.ListenerTemporal, "127.0.0.1:0"); err != nil {
			p.release()
			return nil, err
		}
		p[name] = lis
	}
	return p, nil
}

func (p ports) hosts() hosts {
	h := make(hosts, len(p))
	for name, lis := range p {
		h[name] = lis.Addr().String()
	}
	return h
}

func (p ports) release() {
	for _, lis := range p {
		lis.Close()
	}
}

func newTemporal(hosts hosts, store *config.SQL, log *serverLog) (temporal.Server, error) {
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
			DefaultStore:     storeName,
			VisibilityStore:  storeName,
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{storeName: {SQL: store}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
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
