ALTER TABLE "books" ADD CONSTRAINT "books_author_id_authors_id_fk" FOREIGN KEY ("author_id") REFERENCES "authors"("id") ON DELETE cascade;
--> statement-breakpoint
CREATE INDEX "books_author_id" ON "books" USING btree ("author_id");
--> statement-breakpoint
ALTER TABLE "authors" ADD COLUMN "born" date DEFAULT '2000-01-01' NOT NULL;
