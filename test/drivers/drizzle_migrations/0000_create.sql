CREATE TYPE "mood" AS ENUM ('happy', 'sad');
--> statement-breakpoint
CREATE TABLE "authors" (
	"id" serial PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	CONSTRAINT "authors_name_unique" UNIQUE ("name")
);
--> statement-breakpoint
CREATE TABLE "books" (
	"id" serial PRIMARY KEY NOT NULL,
	"author_id" integer NOT NULL,
	"big" bigint,
	"words" text,
	"at" timestamp with time zone,
	"doc" jsonb,
	"numbers" integer[],
	"price" numeric,
	"yes" boolean,
	"uid" uuid,
	"mood" "mood",
	"nothing" text
);
