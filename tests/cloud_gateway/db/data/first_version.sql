BEGIN TRANSACTION;
CREATE TABLE abandonments (
	reservation_id VARCHAR(1024) NOT NULL, 
	machine_id VARCHAR(1024) NOT NULL, 
	since_s BIGINT NOT NULL, 
	cleared_s BIGINT, 
	PRIMARY KEY (reservation_id)
);
CREATE TABLE events (
	position INTEGER NOT NULL, 
	machine_id VARCHAR(1024) NOT NULL, 
	sequence BIGINT NOT NULL, 
	idempotency_key VARCHAR(1024) NOT NULL, 
	event_type VARCHAR(64) NOT NULL, 
	reservation_id VARCHAR(1024), 
	received_s FLOAT NOT NULL, 
	payload TEXT NOT NULL, 
	PRIMARY KEY (position)
);
INSERT INTO "events" VALUES(1,'m1',1,'idem_1','EVENT_TYPE_RESERVATION_CREATED','res_1',1750000001.0,'{"event_id":"evt_1","idempotency_key":"idem_1","event_time_unix_timestamp":1750000000,"event_time_timestamp":"2025-06-15T15:06:40Z","event_type":"EVENT_TYPE_RESERVATION_CREATED","machine_id":"m1","sequence":1,"boot_id":"b","clock_synced":true,"platform_order_id":"o1","reservation_id":"res_1","reservation_created_event":{"source_type":"SOURCE_TYPE_API","machine":{"machine_id":"m1","name":"","location":""},"cell":{"description":"A03"}}}');
INSERT INTO "events" VALUES(2,'m1',2,'idem_2','EVENT_TYPE_DROPOFF','res_1',1750000002.0,'{"event_id":"evt_2","idempotency_key":"idem_2","event_time_unix_timestamp":1750000000,"event_time_timestamp":"2025-06-15T15:06:40Z","event_type":"EVENT_TYPE_DROPOFF","machine_id":"m1","sequence":2,"boot_id":"b","clock_synced":true,"platform_order_id":"o1","reservation_id":"res_1","drop_off_event":{"source_type":"SOURCE_TYPE_API","machine":{"machine_id":"m1","name":"","location":""},"cell":{"description":"A03"}}}');
INSERT INTO "events" VALUES(3,'m1',3,'idem_3','EVENT_TYPE_RESERVATION_COMPLETED','res_3',1750000003.0,'{"event_id":"evt_3","idempotency_key":"idem_3","event_time_unix_timestamp":1750000000,"event_time_timestamp":"2025-06-15T15:06:40Z","event_type":"EVENT_TYPE_RESERVATION_COMPLETED","machine_id":"m1","sequence":3,"boot_id":"b","clock_synced":true,"platform_order_id":"o1","reservation_id":"res_3","reservation_completed_event":{"source_type":"SOURCE_TYPE_API","machine":{"machine_id":"m1","name":"","location":""},"cell":{"description":"A03"}}}');
CREATE TABLE machines (
	machine_id VARCHAR(1024) NOT NULL, 
	document TEXT NOT NULL, 
	updated_s FLOAT NOT NULL, 
	PRIMARY KEY (machine_id)
);
INSERT INTO "machines" VALUES('m1','{"machine_id":"m1","name":"Awesome Business Park","location":"Benda, Tangerang City, Banten","latitude":-6.125556,"longitude":106.65583,"online":true,"preferred_cells":[{"width":300,"height":300,"depth":400,"heating":false,"cooling":true,"weight_sensor":true}],"all_cells":[{"width":300,"height":300,"depth":400,"heating":false,"cooling":true,"weight_sensor":true,"cell_id":"cell_a03","description":"A03","status":"IDLE","blocked":false,"faulty":false,"available":null,"max_weight":null},{"width":300,"height":300,"depth":400,"heating":false,"cooling":false,"weight_sensor":true,"cell_id":"cell_a04","description":"A04","status":"IDLE","blocked":false,"faulty":false,"available":null,"max_weight":null}],"occupancy_information":"OCCUPANCY_STATUS_LOW"}',1750000000.0);
CREATE TABLE maintenance_tickets (
	ticket_id VARCHAR(128) NOT NULL, 
	machine_id VARCHAR(1024) NOT NULL, 
	cell_label VARCHAR(1024), 
	cell_id VARCHAR(1024), 
	description TEXT, 
	severity VARCHAR(16), 
	created_s BIGINT NOT NULL, 
	source VARCHAR(64) NOT NULL, 
	blocked BOOLEAN, 
	closed_s BIGINT, 
	PRIMARY KEY (ticket_id)
);
INSERT INTO "maintenance_tickets" VALUES('maint_1','m1',NULL,'cell_a03','it rattles','HIGH',1750000000,'SOURCE_TYPE_API',1,NULL);
CREATE TABLE rejected (
	position INTEGER NOT NULL, 
	topic TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	received_s FLOAT NOT NULL, 
	PRIMARY KEY (position)
);
INSERT INTO "rejected" VALUES(1,'t','p','r',1750000000.0);
CREATE TABLE requests (
	"key" VARCHAR(64) NOT NULL, 
	body_digest VARCHAR(64) NOT NULL, 
	reservation_id VARCHAR(128) NOT NULL, 
	status INTEGER, 
	answer TEXT, 
	created_s FLOAT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "requests" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','res_1',200,'{}',1750000000.0);
CREATE TABLE reservations (
	position INTEGER NOT NULL, 
	reservation_id VARCHAR(1024) NOT NULL, 
	complete BOOLEAN NOT NULL, 
	machine_id VARCHAR(1024) NOT NULL, 
	platform VARCHAR(1024) NOT NULL, 
	platform_order_id VARCHAR(1024) NOT NULL, 
	notes VARCHAR(1024) NOT NULL, 
	webhook_url VARCHAR(1024) NOT NULL, 
	status VARCHAR(64) NOT NULL, 
	created_s BIGINT NOT NULL, 
	cell_label VARCHAR(1024), 
	drop_off_code VARCHAR(16) NOT NULL, 
	pickup_code VARCHAR(16) NOT NULL, 
	grace_pickup_s INTEGER NOT NULL, 
	dropped_off_s BIGINT, 
	picked_up_s BIGINT, 
	grace_from_s FLOAT, 
	completed BOOLEAN NOT NULL, 
	learned_s FLOAT NOT NULL, 
	PRIMARY KEY (position), 
	UNIQUE (reservation_id)
);
INSERT INTO "reservations" VALUES(1,'res_1',1,'m1','acme','o1','','','RESERVATION_STATUS_DROPPED_OFF',1750000000,'A03','1234','5678',120,1750000000,NULL,NULL,0,1750000000.0);
INSERT INTO "reservations" VALUES(2,'res_2',1,'m1','acme','o2','','','RESERVATION_STATUS_CANCELLED',1750000000,'A03','1234','5678',120,NULL,NULL,NULL,0,1750000000.0);
INSERT INTO "reservations" VALUES(3,'res_3',1,'m1','acme','o3','','','RESERVATION_STATUS_PICKED_UP',1750000000,'A03','1234','5678',120,NULL,1750000000,1750000000.0,1,1750000000.0);
CREATE TABLE webhooks (
	position INTEGER NOT NULL, 
	reservation_id VARCHAR(1024) NOT NULL, 
	platform_order_id VARCHAR(1024) NOT NULL, 
	body TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_attempt_s FLOAT NOT NULL, 
	last_problem TEXT NOT NULL, 
	PRIMARY KEY (position)
);
INSERT INTO "webhooks" VALUES(1,'res_1','o1','{"event_id": "evt_2", "idempotency_key": "idem_2", "event_time_unix_timestamp": 1750000000, "event_time_timestamp": "2025-06-15T15:06:40Z", "platform_order_id": "o1", "reservation_id": "res_1", "event_type": "EVENT_TYPE_DROPOFF", "drop_off_event": {"source_type": "SOURCE_TYPE_API", "machine": {"machine_id": "m1", "name": "", "location": ""}, "cell": {"description": "A03"}}}','waiting',0,1750000002.0,'');
CREATE INDEX reservations_by_platform ON reservations (platform, created_s, position);
CREATE UNIQUE INDEX events_once ON events (machine_id, idempotency_key);
CREATE INDEX events_in_order ON events (machine_id, sequence);
CREATE INDEX webhooks_waiting ON webhooks (state, reservation_id, position);
CREATE INDEX maintenance_tickets_by_machine ON maintenance_tickets (machine_id, closed_s);
CREATE INDEX abandonments_waiting ON abandonments (cleared_s, machine_id);
COMMIT;
